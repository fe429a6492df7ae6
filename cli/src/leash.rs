//! Child processes that cannot outlive the command.
//!
//! A child gets a process group of its own, so that it can be killed with everything it started and so that a Ctrl-C
//! at the terminal reaches this process alone. It is killed and reaped when its [`Leash`] is dropped, on every path. Should
//! this process be killed without a chance to do that, the kernel kills the child (`PR_SET_PDEATHSIG`).
//!
//! Output is read by one thread a stream and handed over a channel, so that one loop, [`Leash::attend`], waits for output,
//! the end, the time limit and signals at once.

use core::time::Duration;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process_group, set_parent_process_death_signal, waitid,
};

use crate::failure::Failure;
use crate::interrupt::{GLANCE, Interrupts};

/// How long what a child wrote is waited for after its end, where something that it started still holds its output open.
const DRAINING: Duration = Duration::from_millis(500);
/// How long to wait between two looks at a child that has closed its output but not ended yet.
const REAP_PAUSE: Duration = Duration::from_millis(2);

/// Which of its streams a child wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Complaint,
}

/// Who hears a child's output: the time since its start, the stream, the bytes. An error stops the child.
pub type Listener<'a> = dyn FnMut(Duration, Stream, &[u8]) -> Result<(), Failure> + 'a;

/// How a child's time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// It was stopped when its time was up.
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

/// A running child process.
///
/// Having a `Leash` means:
/// * the child has not been reaped, so that its number and its group's are still its own;
/// * dropping it ends the child and whatever the child started in its process group.
#[derive(Debug)]
pub struct Leash {
    child: Child,
    reaped: bool,
    heard: Receiver<(Stream, Vec<u8>)>,
    started: Instant,
}

impl Leash {
    /// Starts `command`, its two output streams connected to this process; the caller has set its standard input.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let parent = getpid();
        // SAFETY: the closure runs between fork and exec; it makes three system calls (prctl, getppid, exit by returning an
        // error), takes no lock and allocates nothing, which is what `pre_exec` asks for.
        unsafe { command.pre_exec(move || die_with(parent)) };
        let mut child = command.spawn()?;
        let (tell, heard) = channel();
        if let Some(stream) = child.stdout.take() {
            // An emulator drops what its guest prints when a pipe stays full. Where it cannot be wider it stays as it is.
            let _ = fcntl_setpipe_size(&stream, WIDE);
            listen(Stream::Output, stream, tell.clone());
        }
        if let Some(stream) = child.stderr.take() {
            listen(Stream::Complaint, stream, tell);
        }
        Ok(Self { child, reaped: false, heard, started: Instant::now() })
    }

    /// The child's standard input, once, when it was piped.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for the end, and hands every piece of output to `listener` with the time since the start.
    ///
    /// # Errors
    ///
    /// [`Failure::Interrupted`] on a signal, and whatever `listener` returns; the child is gone then.
    pub fn attend(
        mut self,
        limit: Option<Duration>,
        interrupts: &Interrupts,
        listener: &mut Listener<'_>,
    ) -> Result<End, Failure> {
        loop {
            interrupts.check()?;
            if let Some(after) = limit.filter(|&limit| self.started.elapsed() >= limit) {
                return Ok(End::TimedOut { after });
            }
            let pause = limit.map_or(GLANCE, |limit| limit.saturating_sub(self.started.elapsed()).min(GLANCE));
            match self.heard.recv_timeout(pause) {
                Ok((stream, bytes)) => listener(self.started.elapsed(), stream, &bytes)?,
                // Silence: it may have ended while something that it started still holds its output open.
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = self.ended()? {
                        self.drain(listener)?;
                        return Ok(End::Exited(status));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => match self.ended()? {
                    Some(status) => return Ok(End::Exited(status)),
                    None => std::thread::sleep(REAP_PAUSE),
                },
            }
        }
    }

    /// Hands on what the child wrote before it ended and nobody has read yet: on a busy machine its threads may be late.
    fn drain(&self, listener: &mut Listener<'_>) -> Result<(), Failure> {
        while let Ok((stream, bytes)) = self.heard.recv_timeout(DRAINING) {
            listener(self.started.elapsed(), stream, &bytes)?;
        }
        Ok(())
    }

    /// The status of the child, once it has ended.
    fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let ended = self.has_ended().and_then(|ended| ended.then(|| self.reap()).transpose());
        ended.map_err(|error| {
            Failure::cannot(format!("a child process cannot be waited for: {error}; it was stopped, run again"))
        })
    }

    /// Whether the child has ended, without reaping it.
    fn has_ended(&self) -> io::Result<bool> {
        let Some(child) = Pid::from_raw(self.child.id().cast_signed()) else { return Ok(true) };
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(child), peek)?.is_some())
    }

    /// Ends whatever is left of the child's group, and then reaps the child: until then the group's number is its own.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.reaped = true;
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // A group whose processes have all ended says that there is nobody to kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.child.wait()
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.reap();
        }
    }
}

/// Bytes that the child can be ahead of its reader: what Linux allows everybody.
const WIDE: usize = 1 << 20;

/// In the child: asks to be killed when `parent` dies, and gives up when it has died already.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
}

/// Reads `stream` to its end on a thread of its own.
fn listen(name: Stream, mut stream: impl Read + Send + 'static, tell: Sender<(Stream, Vec<u8>)>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) if tell.send((name, buffer[..count].to_vec())).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
    });
}

/// What a command left behind that was run to its end.
#[derive(Debug)]
pub struct Finished {
    /// Whether it ended with status 0.
    pub success: bool,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub complaint: String,
}

/// Runs `command` to its end without input, and hands each piece of its standard error to `on_complaint`.
///
/// # Errors
///
/// When it cannot be started, or on a signal.
pub fn run(
    command: &mut Command,
    interrupts: &Interrupts,
    on_complaint: &mut dyn FnMut(&[u8]),
) -> Result<Finished, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let leash = Leash::spawn(command.stdin(Stdio::null()))
        .map_err(|error| Failure::cannot(format!("{name} cannot be started: {error}; is it installed?")))?;
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    let end = leash.attend(None, interrupts, &mut |_, stream, bytes| {
        match stream {
            Stream::Output => output.extend_from_slice(bytes),
            Stream::Complaint => {
                complaint.extend_from_slice(bytes);
                on_complaint(bytes);
            }
        }
        Ok(())
    })?;
    let success = matches!(end, End::Exited(status) if status.success());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Finished { success, output: text(output), complaint: text(complaint) })
}

#[cfg(test)]
mod tests {
    use super::{End, Leash, run};
    use crate::failure::Failure;
    use crate::interrupt::Interrupts;
    use core::time::Duration;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    fn alive(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Runs a shell that starts a grandchild, prints its process id and waits; returns the id and the result.
    fn with_grandchild(limit: Option<Duration>, interrupts: &Interrupts) -> (String, Result<End, Failure>) {
        let leash = Leash::spawn(&mut shell("sleep 60 & echo $!; wait")).expect("a shell");
        let mut pid = String::new();
        let end = leash.attend(limit, interrupts, &mut |_, _, bytes| {
            pid.push_str(core::str::from_utf8(bytes).expect("digits"));
            if limit.is_none() {
                interrupts.raise(15);
            }
            Ok(())
        });
        (pid.trim().to_owned(), end)
    }

    fn assert_gone(pid: &str) {
        let start = Instant::now();
        while alive(pid) {
            assert!(start.elapsed() < Duration::from_secs(5), "{pid} is still alive");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_time_limit_ends_the_child_and_what_it_started() {
        let (pid, end) = with_grandchild(Some(Duration::from_millis(200)), &Interrupts::none());
        assert_eq!(end, Ok(End::TimedOut { after: Duration::from_millis(200) }));
        assert_gone(&pid);
    }

    #[test]
    fn a_signal_ends_the_child_and_what_it_started() {
        let (pid, end) = with_grandchild(None, &Interrupts::none());
        assert_eq!(end, Err(Failure::Interrupted(15)));
        assert_gone(&pid);
    }

    #[test]
    fn a_child_that_leaves_its_output_open_has_still_ended() {
        let leash = Leash::spawn(&mut shell("sleep 60 & exit 3")).expect("a shell");
        let end = leash.attend(Some(Duration::from_secs(20)), &Interrupts::none(), &mut |_, _, _| Ok(()));
        assert!(matches!(end, Ok(End::Exited(status)) if status.code() == Some(3)), "{end:?}");
    }

    #[test]
    fn run_keeps_both_streams_apart() {
        let finished =
            run(&mut shell("echo out; echo err >&2; exit 1"), &Interrupts::none(), &mut |_| {}).expect("ran");
        assert_eq!(
            (finished.output.as_str(), finished.complaint.as_str(), finished.success),
            ("out\n", "err\n", false)
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/no/such/program"), &Interrupts::none(), &mut |_| {}).expect_err("absent");
        assert!(error.to_string().contains("/no/such/program"));
    }
}
