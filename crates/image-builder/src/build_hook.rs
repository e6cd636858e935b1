//! The two hooks of a build: `ready`, which says that the snapshot may be taken, and
//! `validate`, which tries it out.

use std::time::Duration;

use hearth_api::{HookState, ImageConfiguration, MicrovmImageHooks};
use hearth_guest::Guest;
use hearth_guest::guest::ask;
use hearth_guest_protocol::{HookResult, Reply, Request, hook_path};
use tokio::time::Instant;

use crate::failure::{BuildFailure, FailureCode};

/// Default of `readyTimeoutInSeconds` on the service.
const READY_TIMEOUT_SECONDS: u32 = 60;
/// Default of `validateTimeoutInSeconds` on the service.
const VALIDATE_TIMEOUT_SECONDS: u32 = 30;
/// Between two calls.
const PAUSE: Duration = Duration::from_millis(500);
/// What the agent may take longer than the call that it makes.
const AGENT_PATIENCE: Duration = Duration::from_secs(10);

/// A hook of the image that is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuildHook {
    /// As it begins a sentence.
    name: &'static str,
    port: u16,
    timeout_seconds: u32,
}

impl BuildHook {
    /// The `ready` hook, if the image has it.
    pub(crate) fn ready(configuration: &ImageConfiguration) -> Option<Self> {
        let (hooks, port) = image_hooks(configuration)?;
        (hooks.ready == Some(HookState::Enabled)).then(|| Self {
            name: "Ready",
            port,
            timeout_seconds: hooks.ready_timeout_in_seconds.unwrap_or(READY_TIMEOUT_SECONDS),
        })
    }

    /// The `validate` hook, if the image has it.
    pub(crate) fn validate(configuration: &ImageConfiguration) -> Option<Self> {
        let (hooks, port) = image_hooks(configuration)?;
        (hooks.validate == Some(HookState::Enabled)).then(|| Self {
            name: "Validate",
            port,
            timeout_seconds: hooks.validate_timeout_in_seconds.unwrap_or(VALIDATE_TIMEOUT_SECONDS),
        })
    }

    /// Calls the hook until it answers 200. 503, a refused and a broken connection mean "not yet";
    /// any other status fails at once. A call that the app holds is waited for until the time is
    /// over, and not made a second time.
    pub(crate) async fn poll(&self, guest: &Guest) -> Result<(), BuildFailure> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout_seconds.into());
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            let request = Request::Hook {
                port: self.port,
                path: hook_path(&self.name.to_lowercase()),
                body: String::new(),
                timeout_ms: left.as_millis() as u64,
            };
            match ask(guest.vm(), &request, left + AGENT_PATIENCE).await {
                Ok(Reply::Hook(HookResult::Status { code: 200 })) => return Ok(()),
                Ok(Reply::Hook(HookResult::Status { code })) if code != 503 => return Err(self.failed(code)),
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(BuildFailure::platform("call a hook of the image", &error)),
            }
        }
        let after = iso_duration(self.timeout_seconds);
        let message = format!("{} hook invocation timed out after {after}", self.name);
        Err(BuildFailure::new(FailureCode::NotReady, message))
    }

    fn failed(&self, code: u16) -> BuildFailure {
        let answer = match code {
            400..=499 => "a client error (HTTP 4xx) response".to_owned(),
            500..=599 => "a server error (HTTP 5xx) response".to_owned(),
            // The service's words for these are not known.
            code => format!("an unexpected response (HTTP {code})"),
        };
        let message = format!("{} hook check failed: the application returned {answer}", self.name);
        BuildFailure::new(FailureCode::NotReady, message)
    }
}

fn image_hooks(configuration: &ImageConfiguration) -> Option<(&MicrovmImageHooks, u16)> {
    let hooks = configuration.hooks.as_ref()?;
    Some((hooks.microvm_image_hooks.as_ref()?, hooks.port?))
}

/// `PT1M30S` for 90: the form of the service's sentence.
fn iso_duration(seconds: u32) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let part = |value: u32, unit: char| if value == 0 { String::new() } else { format!("{value}{unit}") };
    format!("PT{}{}{}", part(hours, 'H'), part(minutes, 'M'), part(rest, 'S'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(hooks: &str) -> ImageConfiguration {
        let json = format!(
            r#"{{"codeArtifact":{{"uri":"s3://code/app.zip"}},
                "baseImageArn":"arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
                "buildRoleArn":"arn:aws:iam::000000000000:role/build","hooks":{hooks}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn hooks_are_called_when_they_are_enabled_only() {
        let both = configuration(
            r#"{"port":9000,"microvmImageHooks":{"ready":"ENABLED","validate":"ENABLED","validateTimeoutInSeconds":600}}"#,
        );
        let ready = BuildHook::ready(&both).unwrap();
        assert_eq!((ready.name, ready.port, ready.timeout_seconds), ("Ready", 9000, 60));
        let validate = BuildHook::validate(&both).unwrap();
        assert_eq!((validate.name, validate.port, validate.timeout_seconds), ("Validate", 9000, 600));
        let one =
            configuration(r#"{"port":9000,"microvmImageHooks":{"ready":"DISABLED","validate":"ENABLED"}}"#);
        assert_eq!(BuildHook::ready(&one), None);
        assert_eq!(BuildHook::validate(&one).unwrap().timeout_seconds, 30);
        assert_eq!(BuildHook::validate(&configuration(r#"{"port":9000}"#)), None);
    }

    #[test]
    fn statuses_become_the_sentences_of_the_service() {
        let hook = BuildHook { name: "Validate", port: 1, timeout_seconds: 1 };
        let sentence = |code| hook.failed(code).to_string();
        let begin = "Validate hook check failed: the application returned";
        assert_eq!(sentence(404), format!("{begin} a client error (HTTP 4xx) response"));
        assert_eq!(sentence(500), format!("{begin} a server error (HTTP 5xx) response"));
        assert_eq!(sentence(302), format!("{begin} an unexpected response (HTTP 302)"));
    }

    #[test]
    fn durations_are_written_as_the_service_writes_them() {
        assert_eq!(iso_duration(300), "PT5M");
        assert_eq!(iso_duration(90), "PT1M30S");
        assert_eq!(iso_duration(3600), "PT1H");
    }
}
