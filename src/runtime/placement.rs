//! Which shard runs on which CPU.
//!
//! Used by `main` before the launch.

use crate::config::limits::SHARDS_MAX;

pub use crate::config::cpu_list::parse_cpu_list;

/// The CPUs that this process may use (taskset, cpusets of containers), in ascending order.
///
/// # Errors
/// The kernel does not say.
pub fn allowed_cpus() -> Result<Vec<usize>, String> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut cpus: Vec<_> = cores.into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    match cpus.is_empty() {
        true => Err("the kernel does not say which CPUs may be used; set cores and shards".into()),
        false => Ok(cpus),
    }
}

/// The CPU of each shard: one shard for each of `cores`, or for each allowed CPU. With more `shards` than
/// CPUs they go round, with fewer the first CPUs are used.
///
/// # Errors
/// A core that may not be used, or a number of shards that cannot be.
pub fn place(
    shards: Option<u16>,
    cores: Option<&[usize]>,
    allowed: &[usize],
) -> Result<Vec<usize>, String> {
    let cpus = cores.unwrap_or(allowed);
    if cpus.is_empty() {
        return Err("there is no CPU to run on".into());
    }
    let refused = cpus.iter().filter(|cpu| !allowed.contains(cpu));
    let refused: Vec<_> = refused.copied().collect();
    if !refused.is_empty() {
        return Err(format!(
            "cores: CPU {} cannot be used by this process, which may use {}; change cores, or what taskset, \
             CPUAffinity= or the container allows",
            list(&refused),
            list(allowed)
        ));
    }
    let most = usize::from(SHARDS_MAX);
    let count = shards.map_or(cpus.len().min(most), usize::from);
    if count == 0 || count > most {
        return Err(format!("shards: {count} is not from 1 to {most}"));
    }
    Ok(cpus.iter().copied().cycle().take(count).collect())
}

/// Ascending CPU numbers as `0-3,6`: the notation of `cores`.
pub fn list(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let parts = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_for_each_core_by_default() {
        assert_eq!(place(None, None, &[0, 1, 4]), Ok(vec![0, 1, 4]));
        assert_eq!(place(None, Some(&[4, 0]), &[0, 1, 4]), Ok(vec![4, 0]));
        let many: Vec<_> = (0..300).collect();
        assert_eq!(place(None, None, &many).unwrap().len(), 256);
    }

    #[test]
    fn more_shards_than_cores_go_round() {
        assert_eq!(place(Some(5), None, &[2, 3]), Ok(vec![2, 3, 2, 3, 2]));
        assert_eq!(place(Some(1), None, &[2, 3]), Ok(vec![2]));
        assert_eq!(place(Some(256), None, &[0]).unwrap().len(), 256);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let error = place(None, Some(&[0, 7, 8]), &[0, 1, 2, 5]).unwrap_err();
        assert!(
            error.contains("CPU 7-8") && error.contains("0-2,5"),
            "{error}"
        );
        assert!(place(Some(0), None, &[0]).is_err());
        assert!(
            place(Some(257), None, &[0])
                .unwrap_err()
                .contains("1 to 256")
        );
        assert!(place(None, None, &[]).is_err());
        assert!(place(None, Some(&[]), &[0]).is_err());
    }

    #[test]
    fn this_process_may_use_some_cpu() {
        let allowed = allowed_cpus().unwrap();
        assert_eq!(parse_cpu_list(&list(&allowed)), Ok(allowed));
    }
}
