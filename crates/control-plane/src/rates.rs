//! How fast an account may call.

use hearth_service::throttle::Throttle;
use serde::Deserialize;

pub(crate) const RUN: &str = "RunMicrovm";
pub(crate) const RESUME: &str = "ResumeMicrovm";
pub(crate) const SUSPEND: &str = "SuspendMicrovm";
pub(crate) const TERMINATE: &str = "TerminateMicrovm";
pub(crate) const GET: &str = "GetMicrovm";
pub(crate) const AUTH_TOKEN: &str = "CreateMicrovmAuthToken";
pub(crate) const SHELL_AUTH_TOKEN: &str = "CreateMicrovmShellAuthToken";

/// Requests per second, which is also how many may come at once; 0 is no limit. The defaults are
/// the service's ("Lambda quotas", section MicroVMs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is named after its operation")]
pub struct Rates {
    pub run_microvm: u32,
    pub resume_microvm: u32,
    pub suspend_microvm: u32,
    pub terminate_microvm: u32,
    pub get_microvm: u32,
    pub create_microvm_auth_token: u32,
    pub create_microvm_shell_auth_token: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            run_microvm: 5,
            resume_microvm: 5,
            suspend_microvm: 2,
            terminate_microvm: 10,
            get_microvm: 100,
            create_microvm_auth_token: 50,
            create_microvm_shell_auth_token: 5,
        }
    }
}

impl Rates {
    pub(crate) fn throttle(self) -> Throttle {
        Throttle::new([
            (RUN, self.run_microvm),
            (RESUME, self.resume_microvm),
            (SUSPEND, self.suspend_microvm),
            (TERMINATE, self.terminate_microvm),
            (GET, self.get_microvm),
            (AUTH_TOKEN, self.create_microvm_auth_token),
            (SHELL_AUTH_TOKEN, self.create_microvm_shell_auth_token),
        ])
    }
}
