//! The diagram and the table of `docs/lifecycle.md` are what the code says. After a change of the
//! machine: `HEARTH_WRITE_DOCS=1 cargo test -p hearth-lifecycle document`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::*;

const BEGIN: &str = "<!-- begin of what crates/lifecycle/src/machine/tests/document.rs writes -->\n";
const END: &str = "<!-- end of it -->\n";

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("SuspendMicrovm", Event::Suspend),
        ("ResumeMicrovm, a request ¹", Event::Resume),
        ("TerminateMicrovm", Event::Terminate),
        ("idle", Event::Idle(IdleAction::Suspend)),
        ("idle, and `suspendedDurationSeconds` is 0", Event::Idle(IdleAction::Terminate)),
        ("`suspendedDurationSeconds` over", Event::SuspendedTooLong),
        ("`maximumDurationInSeconds` over", Event::MaximumDuration),
        ("the app or the VMM ends by itself ²", Event::ContainerExited(1)),
        ("the step succeeds", Event::StepDone),
        ("the step fails, nothing lost", Event::StepFailed(Failure::Undone(Reason::NoGuest))),
        ("the step fails for good", Event::StepFailed(Failure::Fatal(Reason::NoGuest))),
        ("the server stops, and suspends", Event::Shutdown),
        ("the server stops, and leaves", Event::Leave),
    ]
}

/// A machine in this phase with nothing waiting.
fn machine_in(phase: Phase, hooks: EnabledHooks) -> Machine {
    let next = match phase {
        Phase::TerminateHook => Next::Terminate(Reason::Success),
        _ => Next::Nothing,
    };
    Machine { next, ..Machine::found(phase).with_hooks(hooks) }
}

fn applies(phase: Phase, event: &Event) -> bool {
    match event {
        Event::StepDone | Event::StepFailed(_) => phase.is_step(),
        Event::ContainerExited(_) => phase == Phase::Running,
        _ => true,
    }
}

/// What the event does to a machine with all hooks, and to one with none if that is something else.
fn cell(phase: Phase, event: &Event) -> String {
    if !applies(phase, event) {
        return "–".to_owned();
    }
    let [with, without] = [ALL_HOOKS, EnabledHooks::default()].map(|hooks| effect(phase, event, hooks));
    let hookless_phase =
        matches!(phase, Phase::RunHook | Phase::SuspendHook | Phase::ResumeHook | Phase::TerminateHook);
    if with == without || hookless_phase { with } else { format!("{with} / {without}") }
}

fn effect(phase: Phase, event: &Event, hooks: EnabledHooks) -> String {
    let mut machine = machine_in(phase, hooks);
    let before = machine.clone();
    match machine.on(event.clone()) {
        Decision::Deny(DenyReason::Terminated) => "refused".to_owned(),
        Decision::Deny(DenyReason::Busy(_)) => "409".to_owned(),
        Decision::Deny(DenyReason::NotRecorded) => unreachable!("the machine writes nothing"),
        Decision::CutShort => "cuts it short".to_owned(),
        Decision::Ignore if machine.next == before.next => "·".to_owned(),
        Decision::Ignore => format!("then {:?}", machine.next),
        Decision::Begin(_) | Decision::Changed => format!("→ {:?}", machine.phase()),
    }
}

fn table() -> String {
    let mut text = String::from("| Event |");
    for phase in Phase::ALL {
        write!(text, " {phase:?} |").unwrap();
    }
    text += "\n|---|";
    text += &"---|".repeat(Phase::ALL.len());
    text += "\n| shown as |";
    for phase in Phase::ALL {
        write!(text, " {} |", phase.public_state().as_str()).unwrap();
    }
    for (name, event) in events() {
        write!(text, "\n| {name} |").unwrap();
        for phase in Phase::ALL {
            write!(text, " {} |", cell(phase, &event)).unwrap();
        }
    }
    text + "\n"
}

/// Every change of phase that some event causes, whatever waits and whichever hooks there are.
fn diagram() -> String {
    let mut edges = BTreeSet::new();
    for bits in 0..16 {
        let hooks = EnabledHooks {
            run: bits & 1 != 0,
            resume: bits & 2 != 0,
            suspend: bits & 4 != 0,
            terminate: bits & 8 != 0,
        };
        for (from_place, from) in Phase::ALL.into_iter().enumerate() {
            for (_, event) in events().into_iter().filter(|(_, event)| applies(from, event)) {
                let mut machine = machine_in(from, hooks);
                machine.on(event);
                let to = machine.phase();
                if to != from {
                    let to_place = Phase::ALL.iter().position(|phase| *phase == to);
                    edges.insert((from_place, to_place, format!("    {from:?} --> {to:?}")));
                }
            }
        }
    }
    let lines: Vec<String> = edges.into_iter().map(|(_, _, line)| line).collect();
    format!(
        "```mermaid\nstateDiagram-v2\n    [*] --> Launching\n{}\n    Terminated --> [*]\n```\n",
        lines.join("\n")
    )
}

#[test]
fn the_documentation_is_what_the_machine_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lifecycle.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark of the begin");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    let wanted = format!("{before}{BEGIN}\n{}\n{}\n{END}{after}", diagram(), table());
    if std::env::var_os("HEARTH_WRITE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "docs/lifecycle.md is outdated: run with HEARTH_WRITE_DOCS=1 and look at the change"
        );
    }
}
