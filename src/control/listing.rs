//! Lists over all shards: shard by shard, page by page, until a page is full or has taken its time.

use std::future::Future;
use std::time::{Duration, Instant};

use super::problem::Problem;

/// Rows of a page if nothing else is asked for.
pub(super) const ROWS: usize = 100;
/// Rows of a page at most.
pub(super) const ROWS_MAX: usize = 1000;
/// After so long a page is answered as far as it is; its cursor goes on from there.
const PAGE_WITHIN: Duration = Duration::from_millis(30);

/// Rows, and the cursor of the next page.
pub(super) struct Listed<T> {
    pub(super) rows: Vec<T>,
    pub(super) next: Option<String>,
}

/// How many rows a page has.
pub(super) fn row_count(limit: Option<u32>) -> Result<usize, Problem> {
    match limit {
        None => Ok(ROWS),
        Some(limit) if (1..=ROWS_MAX as u32).contains(&limit) => Ok(limit as usize),
        Some(_) => Err(Problem::bad_request(format!(
            "limit is a number from 1 to {ROWS_MAX}"
        ))),
    }
}

/// A cursor of this form: the shard, a dot, and what the shard said.
pub(super) fn split_cursor(
    cursor: Option<&str>,
    shards: u16,
) -> Result<(u16, Option<&str>), Problem> {
    let Some(cursor) = cursor else {
        return Ok((0, None));
    };
    let parts = cursor.split_once('.');
    let parts = parts.and_then(|(shard, rest)| Some((shard.parse::<u16>().ok()?, rest)));
    match parts.filter(|(shard, _)| *shard < shards) {
        Some((shard, rest)) => Ok((shard, Some(rest).filter(|rest| !rest.is_empty()))),
        None => Err(Problem::bad_request(
            "the cursor is none that an answer had",
        )),
    }
}

/// A number that a shard gave as its cursor.
pub(super) fn number(cursor: Option<&str>) -> Result<u64, Problem> {
    cursor.map_or(Ok(0), |text| {
        text.parse()
            .map_err(|_| Problem::bad_request("the cursor is none that an answer had"))
    })
}

/// Reads pages of `ask(shard, cursor, rows)` until there are `rows`, from the cursor of the last answer on.
pub(super) async fn list<T, F>(
    shards: u16,
    cursor: Option<&str>,
    rows: usize,
    ask: impl Fn(u16, u64, usize) -> F,
) -> Result<Listed<T>, Problem>
where
    F: Future<Output = Result<(Vec<T>, Option<u64>), Problem>>,
{
    let (mut shard, from) = split_cursor(cursor, shards)?;
    let mut from = number(from)?;
    let began = Instant::now();
    let mut listed = Listed {
        rows: Vec::new(),
        next: None,
    };
    loop {
        let (more, next) = ask(shard, from, rows - listed.rows.len()).await?;
        listed.rows.extend(more);
        match next {
            Some(next) => from = next,
            None if shard + 1 < shards => (shard, from) = (shard + 1, 0),
            None => return Ok(listed),
        }
        if listed.rows.len() >= rows || began.elapsed() >= PAGE_WITHIN {
            listed.next = Some(format!("{shard}.{from}"));
            return Ok(listed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_shard_and_place() {
        assert_eq!(split_cursor(None, 2).ok(), Some((0, None)));
        assert_eq!(split_cursor(Some("1.77"), 2).ok(), Some((1, Some("77"))));
        assert_eq!(split_cursor(Some("1."), 2).ok(), Some((1, None)));
        for bad in ["", "1", "2.0", "x.0", "-1.0"] {
            assert!(split_cursor(Some(bad), 2).is_err(), "{bad}");
        }
        assert!(number(Some("x")).is_err());
        assert!(row_count(Some(0)).is_err() && row_count(Some(1001)).is_err());
    }
}
