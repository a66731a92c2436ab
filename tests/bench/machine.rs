//! What the figures were measured on.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine, as far as it matters for the figures.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The day, in UTC.
    pub date: String,
    /// The kernel's release.
    pub kernel: String,
    /// The CPU's name.
    pub cpu: String,
    /// How many CPUs there are.
    pub cpus: usize,
    /// The load average over the minute before the run.
    pub load: f64,
}

impl Machine {
    /// Looks at the machine.
    pub fn look() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            date: date(SystemTime::now()),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            cpu: cpu_model(&read("/proc/cpuinfo")),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            load: load
                .split_whitespace()
                .next()
                .and_then(|figure| figure.parse().ok())
                .unwrap_or_default(),
        }
    }
}

impl Machine {
    /// What a reader must know of it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.load > 0.5 {
            warnings.push(format!(
                "the machine was busy before the run (load {:.1} on {} CPUs); figures of different \
                 runs cannot be compared, ratios within the run can",
                self.load, self.cpus
            ));
        }
        if self.cpus < 2 {
            warnings.push("with a single CPU all else disturbs the sender".into());
        }
        warnings
    }
}

/// The day of a time, such as 2026-01-31 (the civil calendar from days, by H. Hinnant).
fn date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    // Months from March on.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// The CPU's name, from the text of `/proc/cpuinfo`.
fn cpu_model(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or("unknown", |(_, name)| name.trim()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_have_their_dates() {
        let date = |days: u64| date(UNIX_EPOCH + Duration::from_secs(days * 86_400 + 7));
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(20_818), "2026-12-31");
    }

    #[test]
    fn a_cpu_has_a_name_or_is_unknown() {
        let text = "processor\t: 0\nmodel name\t: Some(R) CPU @ 2 GHz\nflags\t: fpu\n";
        assert_eq!(cpu_model(text), "Some(R) CPU @ 2 GHz");
        assert_eq!(cpu_model("processor: 0"), "unknown");
    }
}
