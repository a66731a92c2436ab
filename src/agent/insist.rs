//! An action that something passing has ended is begun anew, for as long as it may take: a stop that fails is a fenced
//! node, and a start or a monitor that fails stops what runs.

use super::environment::Environment;
use super::exit::Failure;
use std::time::Duration;
use tracing::warn;

/// The pause before it is begun anew.
const PAUSE: Duration = Duration::from_millis(100);
/// Where Pacemaker does not say how long an action may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(18);
/// What is kept of the time for telling why it was in vain.
const TO_TELL: Duration = Duration::from_secs(1);

/// How long the action may still take, but for what it needs to tell why it was in vain.
pub(super) fn left(env: &Environment) -> Duration {
    let all = env
        .timeout()
        .map_or(PATIENCE, |timeout| timeout.saturating_sub(TO_TELL));
    all.saturating_sub(env.passed())
}

/// Does it, again and again while what ends it passes and time is left. Each time it has to begin with sockets of its
/// own, for one that a list was not read from to its end has no room for another.
pub(super) fn insist<T>(
    env: &Environment,
    mut act: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    loop {
        match act() {
            Err(failure) if failure.passes && left(env) > PAUSE => {
                warn!("once more: {}", failure.reason);
                std::thread::sleep(PAUSE);
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exit::Code;
    use super::*;

    fn tried(timeout_ms: u32, passes: bool, succeeds_at: usize) -> (usize, bool) {
        let name = "OCF_RESKEY_CRM_meta_timeout".to_owned();
        let env = Environment::new([(name, timeout_ms.to_string())]);
        let mut times = 0;
        let ended = insist(&env, || {
            times += 1;
            match times == succeeds_at {
                true => Ok(()),
                false => Err(Failure::new(Code::Generic, "no room").passing(passes)),
            }
        });
        (times, ended.is_ok())
    }

    #[test]
    fn what_passes_is_tried_again_and_nothing_else() {
        assert_eq!(tried(60_000, true, 3), (3, true));
        assert_eq!(tried(60_000, false, 3), (1, false));
        // Without time there is nothing but the first time.
        assert_eq!(tried(1_000, true, 3), (1, false));
        let (times, ended) = tried(1_350, true, usize::MAX);
        assert!(!ended && (1..=4).contains(&times), "{times}");
    }
}
