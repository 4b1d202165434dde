//! A queue in a server, with a native client: `--kind redis` and `--kind beanstalkd`.
//!
//! The server listens on `DIRECTORY/socket`. A cycle is what a worker that may die must do: LMOVE into
//! a list of its own and LREM from that, or reserve and delete. Options and output: processes.rs.
#![expect(clippy::disallowed_methods, reason = "a benchmark works on the machine itself")]

mod processes;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

use processes::{Order, Outcome, Tally};

/// Jobs in one request.
const BATCH: u64 = 1000;

fn main() -> ExitCode {
    processes::run(submit, work)
}

struct Client {
    stream: BufReader<UnixStream>,
    line: String,
}

impl Client {
    fn new(order: &Order) -> Outcome<Client> {
        let stream = BufReader::new(UnixStream::connect(order.dir.join("socket"))?);
        Ok(Client { stream, line: String::new() })
    }

    fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    fn line(&mut self) -> Outcome<&str> {
        self.line.clear();
        self.stream.read_line(&mut self.line)?;
        Ok(self.line.trim_end())
    }

    /// So many bytes and the end of their line.
    fn bytes(&mut self, length: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn redis(&mut self, words: &[&[u8]]) -> Outcome<()> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.send(&request)
    }

    /// The next job, and what completes it.
    fn take(&mut self, order: &Order, own: &[u8]) -> Outcome<Option<Vec<u8>>> {
        if order.kind == "redis" {
            if order.serve {
                self.redis(&[b"BLMOVE", b"jobs", own, b"RIGHT", b"LEFT", b"0"])?;
            } else {
                self.redis(&[b"LMOVE", b"jobs", own, b"RIGHT", b"LEFT"])?;
            }
            let length = self.line()?.strip_prefix('$').ok_or("redis refused")?.parse::<i64>()?;
            return usize::try_from(length).ok().map(|n| self.bytes(n)).transpose();
        }
        self.send(if order.serve { b"reserve\r\n" } else { b"reserve-with-timeout 0\r\n" })?;
        let words: Vec<String> = self.line()?.split(' ').map(str::to_owned).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["RESERVED", id, length] => {
                self.bytes(length.parse()?)?;
                Ok(Some(id.as_bytes().to_vec()))
            }
            ["TIMED_OUT"] => Ok(None),
            _ => Err(format!("beanstalkd: {}", words.join(" ")).into()),
        }
    }

    fn complete(&mut self, order: &Order, own: &[u8], job: &[u8]) -> Outcome<()> {
        let expected = if order.kind == "redis" {
            self.redis(&[b"LREM", own, b"1", job])?;
            ":1"
        } else {
            self.send(&[b"delete ", job, b"\r\n"].concat())?;
            "DELETED"
        };
        match self.line()? {
            line if line == expected => Ok(()),
            line => Err(format!("not completed: {line}").into()),
        }
    }
}

fn submit(order: &Order) -> Outcome<()> {
    let mut client = Client::new(order)?;
    let mut number = 0;
    while number < order.jobs {
        let names: Vec<String> = (number..order.jobs.min(number + BATCH))
            .map(|n| (order.first + n).to_string())
            .collect();
        number += BATCH;
        if order.kind == "redis" {
            let mut words: Vec<&[u8]> = vec![b"LPUSH", b"jobs"];
            words.extend(names.iter().map(String::as_bytes));
            client.redis(&words)?;
            if !client.line()?.starts_with(':') {
                return Err(format!("redis refused: {}", client.line).into());
            }
        } else {
            let puts: Vec<String> =
                names.iter().map(|n| format!("put 0 0 600 {}\r\n{n}\r\n", n.len())).collect();
            client.send(puts.concat().as_bytes())?;
            for _ in &names {
                if !client.line()?.starts_with("INSERTED") {
                    return Err(format!("beanstalkd refused: {}", client.line).into());
                }
            }
        }
    }
    Ok(())
}

fn work(order: &Order, begin: &mut dyn FnMut()) -> Outcome<Tally> {
    let me = order.worker.unwrap_or_default();
    let own = format!("own.{me}").into_bytes();
    let mut client = Client::new(order)?;
    let share = order.share(me);
    let mut tally = Tally::default();
    begin();
    while tally.jobs < share {
        let Some(job) = client.take(order, &own)? else { break };
        if let Some(program) = &order.program
            && !Command::new(program).status()?.success()
        {
            return Err("a job failed".into());
        }
        client.complete(order, &own, &job)?;
        tally.jobs += 1;
    }
    Ok(tally)
}
