//! Other people's programs that a start waits for on a thread that blocks (cargo, pip), so that they end when `local` does:
//! only Ctrl-C reaches them by itself, and only from a terminal.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

/// Whether this process ends.
static ENDING: AtomicBool = AtomicBool::new(false);
/// How often a thread that waits looks whether it should.
const LOOK: Duration = Duration::from_millis(10);

/// Ends every command that is waited for, now and later.
pub fn end_all() {
    ENDING.store(true, Ordering::Release);
}

/// Runs a command to its end. Blocks.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    wait(command.spawn()?)
}

/// Runs a command to its end, and tells `say` its lines meanwhile; gives what it wrote as errors too. Blocks.
pub(crate) fn run_and_tell(command: &mut Command, mut say: impl FnMut(&str)) -> Result<(ExitStatus, String)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (line, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            for read in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more when we end.
                if line.send(read).is_err() {
                    return;
                }
            }
        });
    }
    // Read meanwhile: a pipe that is full would hold the command up.
    let errors = child.stderr.take().map(|mut stderr| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // What was read until it broke off is what there is.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => say(&line),
            Err(RecvTimeoutError::Timeout) if !ENDING.load(Ordering::Acquire) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = wait(child)?;
    Ok((status, errors.and_then(|errors| errors.join().ok()).unwrap_or_default()))
}

fn wait(mut child: Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if ENDING.load(Ordering::Acquire) {
            child.kill()?;
            child.wait()?;
            bail!("told to end");
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_writes_more_errors_than_a_pipe_holds_comes_to_its_end() {
        let mut lines = Vec::new();
        let script = "echo first; head -c 300000 /dev/zero | tr '\\0' x >&2; echo last; exit 3";
        let (status, errors) =
            run_and_tell(Command::new("sh").args(["-c", script]), |line| lines.push(line.to_owned()))
                .expect("it runs");
        assert_eq!((status.code(), errors.len()), (Some(3), 300_000));
        assert_eq!(lines, ["first", "last"]);
    }
}
