//! CPU numbers as people write them: `0,1,4-7`.
//!
//! Used by the configuration file and by `--cores`.

/// CPU numbers are below this; far more than any machine has, so that `0-99999999999` is a mistake.
pub const CPUS_MAX: usize = 4096;

/// Reads a list like `0,1,4-7`, in its order.
///
/// # Errors
/// What is wrong with which part.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!(
                "\"{part}\" is no CPU number and no range; write a list like 0,1,4-7"
            ));
        };
        if first > last {
            return Err(format!("the range {part} ends before it begins"));
        }
        cpus.extend(first..=last);
    }
    check_cpus(&cpus)?;
    Ok(cpus)
}

/// Whether a list of CPU numbers makes sense.
///
/// # Errors
/// It is empty or names a CPU twice.
pub fn check_cpus(cpus: &[usize]) -> Result<(), String> {
    if cpus.is_empty() {
        return Err("the list of CPUs is empty".into());
    }
    let mut seen = vec![false; CPUS_MAX];
    for cpu in cpus {
        match seen.get_mut(*cpu) {
            None => return Err(format!("CPU {cpu} is beyond {}", CPUS_MAX - 1)),
            Some(true) => return Err(format!("CPU {cpu} is named twice")),
            Some(seen) => *seen = true,
        }
    }
    Ok(())
}

/// A short number without sign.
fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && *number < CPUS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_keep_their_order() {
        assert_eq!(parse_cpu_list("0,1,4-7"), Ok(vec![0, 1, 4, 5, 6, 7]));
        assert_eq!(parse_cpu_list(" 3 , 1-2 "), Ok(vec![3, 1, 2]));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "\"\""),
            ("0,,1", "\"\""),
            ("0,x", "\"x\""),
            ("+1", "\"+1\""),
            ("4-", "\"4-\""),
            ("5-3", "5-3"),
            ("1,0-2", "CPU 1 is named twice"),
            ("0-99999999999", "0-99999999999"),
        ] {
            let error = parse_cpu_list(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
