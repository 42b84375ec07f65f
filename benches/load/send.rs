//! The generator's process: sends each request when it is due, and takes in answers meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};

use super::still::Watch;
use super::{Arrivals, Served};
use crate::figures::Dice;

const REQUEST: &[u8] =
    b"GET /page HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
/// How long answers are waited for after the last request.
const PATIENCE: Duration = Duration::from_secs(3);

/// A request that waits for its answer, on a connection of its own.
struct Waiting {
    stream: UnixStream,
    due: Instant,
    counts: bool,
    good: bool,
}

/// The command `generate SOCKET ARRIVALS`: prints a line when the counted time begins and when it ends, and then a
/// [`Served`].
pub(crate) fn main(socket: &str, arrivals: &str) {
    let arrivals: Arrivals = serde_json::from_str(arrivals).unwrap();
    let times = arrivals.times();
    let mut served = Served::default();
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut answered: Vec<(Instant, Instant)> = Vec::new();
    let mut answer = vec![0; 1 << 17];
    let machine = Watch::start();

    let begin = Instant::now() + Duration::from_millis(20);
    let counted = begin + Duration::from_secs_f64(arrivals.warm_s);
    let end = counted + Duration::from_secs_f64(arrivals.seconds);
    let mut marks = [counted, end].into_iter().peekable();
    let mut next = times.into_iter().map(|time| begin + time).peekable();
    loop {
        let now = Instant::now();
        if marks.next_if(|mark| *mark <= now).is_some() {
            println!("{}", answered.len());
        }
        while let Some(due) = next.next_if(|due| *due <= now) {
            let counts = due >= counted;
            match send(socket) {
                Ok(stream) => waiting.push(Waiting { stream, due, counts, good: false }),
                Err(_) if counts => served.failed += 1,
                Err(_) => {}
            }
            if counts {
                served.late_us.push(micros(due.elapsed()));
            }
        }
        if next.peek().is_none() && marks.peek().is_none() && (waiting.is_empty() || now > end + PATIENCE) {
            break;
        }
        let until = [next.peek(), marks.peek()].into_iter().flatten().min().copied();
        wait(&waiting, until.unwrap_or(now + PATIENCE));
        waiting.retain_mut(|request| {
            let more = request.read(&mut answer);
            if !more && request.counts {
                if request.good {
                    answered.push((request.due, Instant::now()));
                } else {
                    served.failed += 1;
                }
            }
            more
        });
    }
    served.failed += waiting.iter().filter(|request| request.counts).count();
    let stood_still = machine.finish();
    for (due, end) in answered {
        let latency = micros(end - due);
        served.latency_us.push(latency);
        if !stood_still.iter().any(|still| still.touches(due, end)) {
            served.clear_us.push(latency);
        }
    }
    served.latency_us.sort_unstable();
    served.clear_us.sort_unstable();
    served.late_us.sort_unstable();
    println!("{}", super::json(&served));
}

/// The command `watch SECONDS`: prints how late each of its wake-ups was.
pub(crate) fn watch(seconds: &str) {
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse().unwrap());
    let mut late = Vec::new();
    let mut due = Instant::now();
    while due < end {
        due += Duration::from_millis(1);
        wait(&[], due);
        late.push(micros(due.elapsed()));
        // What was slept through is one lateness, not many.
        due = due.max(Instant::now() - Duration::from_millis(1));
    }
    late.sort_unstable();
    println!("{}", super::json(&late));
}

impl Arrivals {
    /// The intended times, from the beginning of the warming up.
    fn times(&self) -> Vec<Duration> {
        let mut dice = Dice::from(self.seed);
        let mut times = Vec::new();
        let mut busy = 0.0;
        loop {
            busy -= (1.0 - dice.fraction()).ln() / self.rate;
            // Bursts: time without them is cut out of the process, and put between them again.
            let time = if self.cycle_ms == 0.0 {
                busy
            } else {
                let (cycle, burst) = (self.cycle_ms / 1e3, self.burst_ms / 1e3);
                let share = burst / cycle;
                let cycles = (busy / cycle).floor();
                cycles * cycle + (busy - cycles * cycle) * share
            };
            if time >= self.warm_s + self.seconds {
                return times;
            }
            times.push(Duration::from_secs_f64(time));
        }
    }
}

impl Waiting {
    /// Takes in what there is of the answer; false once it has ended.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(n) => self.good |= buffer[..n].starts_with(b"HTTP/1.1 200"),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.good = false;
                    return false;
                }
            }
        }
    }
}

fn send(socket: &str) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(REQUEST)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Sleeps until then, or until an answer is complete.
fn wait(waiting: &[Waiting], until: Instant) {
    // Asks for the hang-up alone, which comes with the end of the answer: waking up costs the service a preemption, and
    // once is enough. An answer fits into a socket's buffer.
    let mut fds: Vec<PollFd<'_>> =
        waiting.iter().map(|request| PollFd::new(request.stream.as_fd(), PollFlags::empty())).collect();
    let time = until.saturating_duration_since(Instant::now());
    match ppoll(&mut fds, Some(time.into()), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => panic!("ppoll: {errno}"),
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
