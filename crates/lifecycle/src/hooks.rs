//! The hooks of a microVM's life: which are called, with what, and what an answer means
//! (docs/lifecycle.md, "Hooks").

use std::time::Duration;

use hearth_api::{HookState, ImageConfiguration, MicrovmId};
use hearth_guest::Guest;
use hearth_guest::guest::{Error as GuestError, ask, describe_exit};
use hearth_guest_protocol::{HookResult, Reply, Request, chain, client, hook_path};
use hearth_records::{Hook, HookOutcome, Reason};
use hearth_vmm::GuestStream;

use crate::machine::{EnabledHooks, Failure};

/// Whether requests may go to the port that the image's hooks are called on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HooksPort {
    /// With a token that covers it, as on the service.
    #[default]
    Open,
    /// Never.
    Closed,
}

/// When the image gives no timeout.
const DEFAULT_TIMEOUT_SECONDS: u32 = 1;
/// What the agent may need beyond the hook's own timeout, on a host under load.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);
/// How long after a broken hook the end of the app may show, which is then the better reason. On a
/// busy host the guest takes more than half a second to take a process down.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// The hooks of one image version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    port: u16,
    run: Option<Duration>,
    resume: Option<Duration>,
    suspend: Option<Duration>,
    terminate: Option<Duration>,
}

/// Where the app answers a hook.
fn path(hook: Hook) -> String {
    hook_path(&hook.name().to_lowercase())
}

/// What was wrong with this outcome; `None` is success. Only 200 is.
fn failure(result: HookResult) -> Option<HookOutcome> {
    Some(match result {
        HookResult::Status { code: 200 } => return None,
        HookResult::Status { code } => HookOutcome::Status(code),
        HookResult::Refused => HookOutcome::Refused,
        HookResult::TimedOut => HookOutcome::TimedOut,
        HookResult::Broken => HookOutcome::Broken,
    })
}

impl Hooks {
    pub(crate) fn of(configuration: &ImageConfiguration) -> Self {
        let Some(hooks) = &configuration.hooks else { return Self::default() };
        let (Some(port), Some(of)) = (hooks.port, &hooks.microvm_hooks) else { return Self::default() };
        let timeout = |state: Option<HookState>, seconds: Option<u32>| {
            let seconds = seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
            (state == Some(HookState::Enabled)).then(|| Duration::from_secs(seconds.into()))
        };
        Self {
            port,
            run: timeout(of.run, of.run_timeout_in_seconds),
            resume: timeout(of.resume, of.resume_timeout_in_seconds),
            suspend: timeout(of.suspend, of.suspend_timeout_in_seconds),
            terminate: timeout(of.terminate, of.terminate_timeout_in_seconds),
        }
    }

    pub(crate) fn enabled(&self) -> EnabledHooks {
        EnabledHooks {
            run: self.run.is_some(),
            resume: self.resume.is_some(),
            suspend: self.suspend.is_some(),
            terminate: self.terminate.is_some(),
        }
    }

    fn timeout(&self, hook: Hook) -> Duration {
        let timeout = match hook {
            Hook::Run => self.run,
            Hook::Resume => self.resume,
            Hook::Suspend => self.suspend,
            Hook::Terminate => self.terminate,
        };
        timeout.unwrap_or(Duration::from_secs(DEFAULT_TIMEOUT_SECONDS.into()))
    }

    /// Calls a hook and judges its answer. `warm` is used if there is one; it is given back when
    /// it can be used again.
    pub(crate) async fn call(
        &self,
        hook: Hook,
        body: String,
        guest: &Guest,
        warm: &mut Option<Box<dyn GuestStream>>,
    ) -> Result<(), Failure> {
        let timeout = self.timeout(hook);
        let timeout_ms = timeout.as_millis() as u64;
        let request = Request::Hook { port: self.port, path: path(hook), body, timeout_ms };
        let answer = converse(guest, &request, warm.take(), timeout + AGENT_PATIENCE);
        let result = match guest.while_it_runs(answer).await {
            Ok((result, stream)) => {
                *warm = stream;
                result
            }
            Err(GuestError::Ended(_)) => {
                let how = describe_exit(&guest.vm().wait().await);
                return Err(Failure::Fatal(Reason::VmmEnded { how }));
            }
            Err(error) => {
                tracing::warn!(?hook, error = %chain(&error), "a hook could not be called");
                HookResult::Broken
            }
        };
        let Some(outcome) = failure(result) else { return Ok(()) };
        if matches!(result, HookResult::Refused | HookResult::Broken)
            && let Ok(Reply::Exited { code }) = ask(guest.vm(), &Request::WaitExit, EXIT_PATIENCE).await
        {
            return Err(Failure::Fatal(Reason::AppEnded { code }));
        }
        Err(Failure::Fatal(Reason::HookFailed { hook, outcome }))
    }
}

/// Asks the agent; a conversation that breaks is a hook that broke.
async fn converse(
    guest: &Guest,
    request: &Request,
    warm: Option<Box<dyn GuestStream>>,
    patience: Duration,
) -> (HookResult, Option<Box<dyn GuestStream>>) {
    let answer = async {
        let mut stream = match warm {
            Some(stream) => stream,
            None => guest.vm().connect_guest().await.ok()?,
        };
        match client::ask(&mut stream, request).await {
            Ok(Reply::Hook(result)) => Some((result, Some(stream))),
            Ok(_) | Err(_) => None,
        }
    };
    match tokio::time::timeout(patience, answer).await {
        Ok(Some(answer)) => answer,
        Ok(None) => (HookResult::Broken, None),
        Err(_) => (HookResult::TimedOut, None),
    }
}

/// The body of the run hook. Without a payload the member is an empty string, so that apps need not
/// tell three cases apart.
pub(crate) fn run_body(id: &MicrovmId, payload: &str) -> String {
    serde_json::json!({ "microvmId": id.as_str(), "runHookPayload": payload }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_sentence() {
        let end = "Please check your hook endpoint and application logs for more details.";
        for (hook, result, sentence) in [
            (Hook::Run, HookResult::Status { code: 400 }, "Run lifecycle hook returned HTTP status 400."),
            (Hook::Run, HookResult::Status { code: 204 }, "Run lifecycle hook returned HTTP status 204."),
            (Hook::Resume, HookResult::Refused, "Resume lifecycle hook connection was refused."),
            (Hook::Suspend, HookResult::TimedOut, "Suspend lifecycle hook timed out."),
            (Hook::Terminate, HookResult::Broken, "Terminate lifecycle hook failed."),
        ] {
            let outcome = failure(result).unwrap();
            assert_eq!(Reason::HookFailed { hook, outcome }.to_string(), format!("{sentence} {end}"));
        }
        assert_eq!(failure(HookResult::Status { code: 200 }), None);
        assert_eq!(path(Hook::Resume), "/aws/lambda-microvms/runtime/v1/resume");
    }

    #[test]
    fn only_enabled_hooks_are_called_and_within_a_second_unless_the_image_says_more() {
        let configuration = |hooks: serde_json::Value| -> ImageConfiguration {
            serde_json::from_value(serde_json::json!({
                "baseImageArn": "a", "buildRoleArn": "b", "codeArtifact": { "uri": "c" }, "hooks": hooks,
            }))
            .unwrap()
        };
        let hooks = Hooks::of(&configuration(serde_json::json!({ "port": 9000, "microvmHooks": {
            "run": "ENABLED", "suspend": "DISABLED", "resume": "ENABLED", "resumeTimeoutInSeconds": 60,
            "terminateTimeoutInSeconds": 3,
        } })));
        let enabled = EnabledHooks { run: true, resume: true, suspend: false, terminate: false };
        assert_eq!(hooks.enabled(), enabled);
        assert_eq!(hooks.timeout(Hook::Run), Duration::from_secs(1));
        assert_eq!(hooks.timeout(Hook::Resume), Duration::from_mins(1));
        assert_eq!(Hooks::of(&configuration(serde_json::Value::Null)).enabled(), EnabledHooks::default());
    }

    #[test]
    fn the_payload_is_passed_as_it_is() {
        let id = MicrovmId::from_stored("microvm-1");
        assert_eq!(
            run_body(&id, "{\"a\": \"\u{1F600}\"}"),
            "{\"microvmId\":\"microvm-1\",\"runHookPayload\":\"{\\\"a\\\": \\\"\u{1F600}\\\"}\"}"
        );
        assert_eq!(run_body(&id, ""), r#"{"microvmId":"microvm-1","runHookPayload":""}"#);
    }
}
