//! One connection. Its invariant: a request is read when the one before it is answered.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::Shared;
use crate::api::{self, Context, Outcome, Request, Room, Unanswerable};
use crate::faults::Fault;
use crate::frame::{self, FrameError, FrameReader};
use crate::node::Now;

pub(super) struct Connection {
    frames: FrameReader<BufReader<OwnedReadHalf>>,
    answers: OwnedWriteHalf,
    peer: SocketAddr,
    client_host: String,
    shared: Rc<Shared>,
    serving: watch::Receiver<bool>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The client has closed it, or the broker stops.
    #[error("closed")]
    Closed,
    #[error(transparent)]
    Transport(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Unanswerable(#[from] Unanswerable),
    /// It would keep the memory of its answer from others for ever.
    #[error("the client has taken nothing of an answer for {} ms", time.as_millis())]
    Unread { time: Duration },
    /// An API's own decision.
    #[error("{0}")]
    Refused(&'static str),
    #[error("closed by an injected fault")]
    Fault,
}

/// What to do with an answer.
enum Reply {
    Send,
    SendAfter(Duration),
    /// And read nothing more for so long.
    SendAndRest(Duration),
    Withhold,
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, shared: Rc<Shared>, serving: watch::Receiver<bool>) -> Self {
        let (requests, answers) = stream.into_split();
        let bytes_max = shared.node.borrow().config.limits.request_bytes_max;
        let frames = FrameReader::new(BufReader::new(requests), bytes_max);
        // As `InetAddress.toString` of an address without a name, which is what Kafka shows of a group's members.
        let client_host = format!("/{}", peer.ip().to_canonical());
        Self { frames, answers, peer, client_host, shared, serving }
    }

    /// Serves until either side ends it.
    pub(super) async fn run(mut self) {
        let peer = self.peer;
        let end = loop {
            if let Err(end) = self.serve_one().await {
                break end;
            }
        };
        match end {
            End::Closed | End::Transport(_) | End::Fault | End::Frame(FrameError::Io(_)) => {
                tracing::debug!(%peer, why = %end, "connection closed")
            }
            End::Frame(_) | End::Unanswerable(_) | End::Unread { .. } | End::Refused(_) => {
                tracing::warn!(%peer, why = %end, "connection closed");
            }
        }
    }

    /// Reads a request, has it carried out and writes its answer.
    async fn serve_one(&mut self) -> Result<(), End> {
        let frame = tokio::select! {
            biased;
            _ = self.serving.wait_for(|is_serving| !is_serving) => None,
            frame = self.frames.next() => frame?,
        };
        let request = frame::parse(frame.ok_or(End::Closed)?)?;
        let (refused, reply) = self.befall(&request).await?;
        let throttle = if let Reply::SendAndRest(time) = reply { time } else { Duration::ZERO };
        let outcome = self.carry_out(request, refused, throttle).await?;
        match reply {
            Reply::Send | Reply::SendAndRest(_) => {}
            Reply::SendAfter(time) => self.unless_ended(tokio::time::sleep(time)).await?,
            Reply::Withhold => return Err(self.be_silent().await),
            Reply::Close => return Err(End::Fault),
        }
        match outcome {
            Outcome::Answer(answer) => self.send(answer).await?,
            Outcome::Silence => {}
            Outcome::Close(reason) => return Err(End::Refused(reason)),
        }
        if throttle.is_zero() { Ok(()) } else { self.unless_ended(tokio::time::sleep(throttle)).await }
    }

    /// The fault that befalls a request, if any: what comes before it is done here, what comes after it is given back.
    async fn befall(&mut self, request: &Request) -> Result<(Option<ResponseError>, Reply), End> {
        match self.shared.faults.strike(request.key, &request.client_id) {
            None => Ok((None, Reply::Send)),
            Some(Fault::Delay(time)) => {
                // A client that has given up does not take back what is on its way.
                tokio::select! {
                    () = tokio::time::sleep(time) => Ok((None, Reply::Send)),
                    _ = self.serving.wait_for(|is_serving| !is_serving) => Err(End::Closed),
                }
            }
            Some(Fault::DelayReply(time)) => Ok((None, Reply::SendAfter(time))),
            Some(Fault::DropRequest) => Err(self.be_silent().await),
            Some(Fault::DropReply) => Ok((None, Reply::Withhold)),
            Some(Fault::Throttle(time)) => Ok((None, Reply::SendAndRest(time))),
            Some(Fault::Error(error)) => Ok((Some(error), Reply::Send)),
            Some(Fault::Disconnect) => Err(End::Fault),
            Some(Fault::DisconnectAfter) => Ok((None, Reply::Close)),
            Some(Fault::Freeze(time)) => {
                self.shared.freeze(time);
                Ok((None, Reply::Send))
            }
        }
    }

    /// Carries a request out. One that waits is given up when its connection ends.
    async fn carry_out(
        &mut self,
        request: Request,
        refused: Option<ResponseError>,
        throttle: Duration,
    ) -> Result<Outcome<BytesMut>, End> {
        let context = Context {
            client_id: request.client_id.to_string(),
            client_host: self.client_host.clone(),
            version: request.version,
            now: Now::read(),
            room: Room::new(self.shared.node.borrow().config.limits.answer_bytes_max),
            throttle,
        };
        let node = Rc::clone(&self.shared.node);
        let outcome = self.unless_ended(api::answer(&node, request, &context, refused)).await??;
        let mut node = node.borrow_mut();
        if node.config.flush_interval.is_zero()
            && let Err(error) = node.sync()
        {
            tracing::error!(%error, "what was written cannot be synced, and so is not acknowledged");
            return Err(error.into());
        }
        Ok(outcome)
    }

    /// Waits for something, but not longer than for the end of the connection or of the broker.
    async fn unless_ended<T>(&mut self, future: impl Future<Output = T>) -> Result<T, End> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            () = closed_by_peer(self.answers.as_ref()) => Err(End::Closed),
            _ = self.serving.wait_for(|is_serving| !is_serving) => Err(End::Closed),
        }
    }

    /// Writes an answer, in one write if the client takes it at once.
    async fn send(&mut self, mut answer: BytesMut) -> Result<(), End> {
        let (time, _unsent) = {
            let node = self.shared.node.borrow();
            (node.config.limits.unread_time_max, Unsent::new(Rc::clone(&node.unsent_bytes), answer.len()))
        };
        while !answer.is_empty() {
            // A slow client has this time for each part that it takes, not for all of them.
            let written = tokio::time::timeout(time, self.answers.write_buf(&mut answer)).await;
            written.map_err(|_| End::Unread { time })??;
        }
        Ok(())
    }

    /// Reads and answers nothing more until the connection ends.
    async fn be_silent(&mut self) -> End {
        let mut ignored = [0; 4_096];
        loop {
            let read = tokio::select! {
                biased;
                _ = self.serving.wait_for(|is_serving| !is_serving) => return End::Closed,
                read = self.frames.reader().read(&mut ignored) => read,
            };
            match read {
                Ok(0) => return End::Closed,
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
    }
}

/// Ends when the client has closed its side and sent nothing before that is still to be read; else never.
async fn closed_by_peer(stream: &TcpStream) {
    // With bytes to read it cannot be seen whether the end comes after them.
    if !matches!(stream.peek(&mut [0]).await, Ok(0) | Err(_)) {
        std::future::pending::<()>().await;
    }
}

/// Bytes of an answer while it is written, also if the task is dropped.
struct Unsent {
    all: Rc<Cell<usize>>,
    bytes: usize,
}

impl Unsent {
    fn new(all: Rc<Cell<usize>>, bytes: usize) -> Self {
        all.set(all.get() + bytes);
        Self { all, bytes }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}
