//! Stands in for the server when the tests of this crate start confined processes: knows
//! works that go wrong.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::fs::File;
use std::io::{Read as _, Write as _};

use hearth_confined::{Task, Work};

fn echo(mut task: Task) -> Vec<u8> {
    for file in &mut task.files {
        file.read_to_end(&mut task.question).unwrap();
    }
    task.question
}

fn panics(task: Task) -> Vec<u8> {
    panic!("invariant: {} is no {}", task.files.len(), "zip\n\u{1b}[2J");
}

fn aborts(_: Task) -> Vec<u8> {
    std::process::abort()
}

#[expect(unconditional_recursion, reason = "overflows the stack")]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box([depth; 128])[0] + recurse(depth + 1)
}

fn overflows(_: Task) -> Vec<u8> {
    recurse(0).to_le_bytes().to_vec()
}

fn allocates(task: Task) -> Vec<u8> {
    let bytes: usize = String::from_utf8(task.question).unwrap().parse().unwrap();
    // One that is refused at once, then what is used piece by piece.
    let mut all = Vec::new();
    while all.len() * (1 << 20) < bytes {
        all.push(vec![1_u8; 1 << 20]);
    }
    all.len().to_string().into_bytes()
}

fn believes(task: Task) -> Vec<u8> {
    let bytes: usize = String::from_utf8(task.question).unwrap().parse().unwrap();
    vec![0; bytes]
}

fn loops(_: Task) -> Vec<u8> {
    loop {
        std::hint::spin_loop();
    }
}

fn waits(mut task: Task) -> Vec<u8> {
    // A pipe that nobody writes to.
    let mut nothing = Vec::new();
    task.files[0].read_to_end(&mut nothing).unwrap();
    nothing
}

fn floods(_: Task) -> Vec<u8> {
    loop {
        std::io::stdout().write_all(&[b'x'; 4096]).unwrap();
    }
}

fn complains(_: Task) -> Vec<u8> {
    for _ in 0..10_000 {
        std::io::stderr().write_all(&[b'x'; 4096]).unwrap();
    }
    b"done".to_vec()
}

fn writes(mut task: Task) -> Vec<u8> {
    match (0..10_000).try_for_each(|_| task.files[0].write_all(&[b'x'; 8 << 10])) {
        Ok(()) => b"all".to_vec(),
        Err(error) => error.to_string().into_bytes(),
    }
}

/// What an escaped parser would try; each with how it ended.
fn escapes(_: Task) -> Vec<u8> {
    type Attempt = fn() -> std::io::Result<()>;
    let tries: [(&str, Attempt); 8] = [
        ("open", || File::open("/etc/passwd").map(|_| ())),
        ("create", || File::create("/tmp/hearth-escaped").map(|_| ())),
        ("list", || std::fs::read_dir("/").map(|_| ())),
        ("connect", || std::net::TcpStream::connect("127.0.0.1:22").map(|_| ())),
        ("unix", || std::os::unix::net::UnixDatagram::unbound().map(|_| ())),
        ("execute", || std::process::Command::new("/bin/true").status().map(|_| ())),
        ("thread", || std::thread::Builder::new().spawn(|| ()).map(|_| ())),
        ("signal", || {
            let parent = nix::unistd::Pid::from_raw(-1);
            Ok(nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGKILL)?)
        }),
    ];
    let told = tries.iter().map(|(name, attempt)| match attempt() {
        Ok(()) => format!("{name}: done"),
        Err(error) => format!("{name}: {}", error.raw_os_error().unwrap_or_default()),
    });
    let uid = nix::unistd::getuid();
    told.chain([format!("uid: {uid}")]).collect::<Vec<_>>().join("\n").into_bytes()
}

fn main() {
    type Run = fn(Task) -> Vec<u8>;
    let works: [(&'static str, Run); 12] = [
        ("echo", echo),
        ("panics", panics),
        ("aborts", aborts),
        ("overflows", overflows),
        ("allocates", allocates),
        ("believes", believes),
        ("loops", loops),
        ("waits", waits),
        ("floods", floods),
        ("complains", complains),
        ("writes", writes),
        ("escapes", escapes),
    ];
    hearth_confined::run_if_requested(&works.map(|(name, run)| Work { name, run }));
    eprintln!("this program is only of use as a confined process");
    std::process::exit(2);
}
