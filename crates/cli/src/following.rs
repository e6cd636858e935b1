//! What goes on for as long as the user wants outlives the server: between its stop and its next
//! start nobody answers, and the question is asked again.

use std::time::Duration;

use crate::client::ApiError;

/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether an answer has come before, so that there is something to go on with.
#[derive(Debug, Default)]
pub(crate) struct Following {
    has_begun: bool,
}

impl Following {
    /// Asks until there is an answer, which may be a refusal. The first time a server has to be
    /// there.
    #[expect(clippy::print_stderr, reason = "standard output is for what is followed")]
    pub(crate) async fn ask<T>(
        &mut self,
        mut question: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut was_told = false;
        loop {
            let error = match question().await {
                Err(error) if self.has_begun && !error.is::<ApiError>() => error,
                answer => {
                    self.has_begun = true;
                    return answer;
                }
            };
            if !was_told {
                eprintln!("hearth: {error:#}; waiting for the server");
                was_told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_has_begun_waits_for_a_server_and_refusals_are_answers() {
        let refusal = || ApiError { code: "AccessDeniedException".to_owned(), message: String::new() };
        let mut following = Following::default();
        let nobody: anyhow::Result<()> = following.ask(async || Err(anyhow::anyhow!("nobody"))).await;
        assert_eq!(nobody.unwrap_err().to_string(), "nobody");

        let mut following = Following::default();
        assert_eq!(following.ask(async || Ok(1)).await.unwrap(), 1);
        let mut attempts = 0;
        let again = async || {
            attempts += 1;
            if attempts < 4 { Err(anyhow::anyhow!("nobody")) } else { Ok(attempts) }
        };
        assert_eq!(following.ask(again).await.unwrap(), 4);
        let refused: anyhow::Result<()> = following.ask(async || Err(refusal().into())).await;
        assert!(refused.unwrap_err().is::<ApiError>());
    }
}
