//! Confined processes and their ends. They need root, and say so where they have not.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use hearth_confined::uid::UidPool;
use hearth_confined::{Confinement, Error, Job, Limits};

const FIRST_UID: u32 = 0x4fff_0000;
/// Of all tests, which run at the same time.
static UIDS: LazyLock<UidPool> = LazyLock::new(|| UidPool::new(FIRST_UID));
const LIMITS: Limits = Limits {
    memory_bytes: 64 << 20,
    cpu_seconds: 30,
    time: Duration::from_mins(1),
    written_bytes: 1 << 20,
    answer_bytes: 1 << 20,
};

/// `None` without root, after saying so.
fn confinement() -> Option<Confinement> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: confined processes need root");
        return None;
    }
    Some(Confinement::with_program(PathBuf::from(env!("CARGO_BIN_EXE_hearth-confined-test")), UIDS.clone()))
}

fn job(work: &'static str, question: &str) -> Job {
    Job { work, question: question.as_bytes().to_vec(), files: Vec::new(), limits: LIMITS }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_files_and_answers_arrive_whole() {
    let Some(confinement) = confinement() else { return };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b" and a file").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    // Longer than pipes hold, both ways.
    let question = "question ".repeat(50_000);
    let files = vec![file];
    let answer = confinement.run(Job { files, ..job("echo", &question) }).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), format!("{question} and a file"));
}

/// What each end of a child is told as.
async fn ends(work: &'static str, question: &str, limits: Limits) -> Option<Error> {
    let confinement = confinement()?;
    let (read, _write) = std::io::pipe().unwrap();
    let files = vec![File::from(OwnedFd::from(read))];
    let job = Job { work, question: question.as_bytes().to_vec(), files, limits };
    Some(confinement.run(job).await.expect_err(work))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_with_its_message_in_one_line() {
    let Some(error) = ends("panics", "", LIMITS).await else { return };
    let Error::Failed { said } = &error else { panic!("{error:?}") };
    assert!(said.contains("invariant: 1 is no zip") && !said.contains(['\n', '\u{1b}']), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_and_a_stack_that_overflows_are_errors() {
    for work in ["aborts", "overflows"] {
        let Some(error) = ends(work, "", LIMITS).await else { return };
        assert!(matches!(error, Error::Killed { signal: 6 | 11 | 4 }), "{work}: {error:?}");
        assert!(error.to_string().contains("signal"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_whether_it_is_claimed_or_used() {
    let many = (8_u64 << 40).to_string();
    for work in ["allocates", "believes"] {
        let Some(error) = ends(work, &many, LIMITS).await else { return };
        assert!(matches!(error, Error::Killed { .. }), "{work}: {error:?}");
    }
    let Some(confinement) = confinement() else { return };
    let answer = confinement.run(job("allocates", &(32 << 20).to_string())).await.unwrap();
    assert_eq!(answer, b"32", "what is allowed works");
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_and_waits_end_when_their_time_is_over() {
    let Some(error) = ends("loops", "", Limits { cpu_seconds: 1, ..LIMITS }).await else { return };
    assert!(matches!(error, Error::Killed { signal: 9 }), "{error:?}");
    for work in ["loops", "waits"] {
        let error = ends(work, "", Limits { time: Duration::from_secs(1), ..LIMITS }).await.unwrap();
        assert!(matches!(error, Error::TimedOut { seconds: 1 }), "{work}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_answers_or_complaints_is_not_kept() {
    let Some(error) = ends("floods", "", LIMITS).await else { return };
    assert!(matches!(error, Error::Flood { bytes: 1_048_576 }), "{error:?}");
    let confinement = confinement().unwrap();
    assert_eq!(confinement.run(job("complains", "")).await.unwrap(), b"done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_grows_up_to_its_limit() {
    let Some(confinement) = confinement() else { return };
    let file = tempfile::tempfile().unwrap();
    let files = vec![file.try_clone().unwrap()];
    let answer = confinement.run(Job { files, ..job("writes", "") }).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("File too large"));
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_its_files_is_in_reach() {
    let Some(confinement) = confinement() else { return };
    let answer = confinement.run(job("escapes", "")).await.unwrap();
    let told = String::from_utf8(answer).unwrap();
    let (tries, uid) = told.rsplit_once('\n').unwrap();
    // EPERM of the filter: not even "no such file".
    assert!(tries.lines().all(|line| line.ends_with(": 1")), "{tries}");
    let uid: u32 = uid.strip_prefix("uid: ").unwrap().parse().unwrap();
    assert!((FIRST_UID..FIRST_UID + 100).contains(&uid), "{uid}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_whose_answer_nobody_wants_is_killed() {
    let Some(confinement) = confinement() else { return };
    let (mut read, write) = std::io::pipe().unwrap();
    let files = vec![File::from(OwnedFd::from(write))];
    let run = confinement.run(Job { files, ..job("loops", "") });
    assert!(tokio::time::timeout(Duration::from_millis(300), run).await.is_err());
    // The other end of the pipe is the child's: its end is the child's.
    let ended = tokio::task::spawn_blocking(move || read.read_to_end(&mut Vec::new()));
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_that_is_not_known_is_an_error() {
    let Some(error) = ends("unknown", "", LIMITS).await else { return };
    assert!(error.to_string().contains("there is no work \"unknown\""), "{error}");
}
