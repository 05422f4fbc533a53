//! What stands between the processes of a run and an Apache Kafka, which takes no faults itself: a relay that knows where a request
//! begins and whose it is, and does to it what the embedded broker's rules say. It has to be what the broker advertises.
//!
//! Invariant: a connection's requests are passed on in their order, each when the one before it is answered, as both brokers carry them
//! out. A request that is passed on is carried out, whatever becomes of who sent it. (Who sends with acks=0 has no answer to wait for;
//! nobody here does.)

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tidewatch_broker::{ApiKey, Fault, Faults};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// The largest request or answer that is believed to be one.
const FRAME_BYTES_MAX: usize = 128 << 20;

/// A relay at work; gone with this, and its connections too.
pub(crate) struct Proxy {
    address: SocketAddr,
    faults: Faults,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Passes on what comes to this listener. What comes before the broker is up is cut.
    pub(crate) fn start(listener: TcpListener, broker: SocketAddr) -> anyhow::Result<Self> {
        let (address, faults) = (listener.local_addr()?, Faults::default());
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (end, ended) = oneshot::channel();
        let rules = faults.clone();
        let serve = async move {
            tokio::select! {
                () = accept(&listener, broker, &rules) => {}
                _ = ended => {}
            }
        };
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || runtime.block_on(serve))?;
        Ok(Self { address, faults, end: Some(end), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its rules: all but those that answer in the broker's place.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        // With the thread its connections end; a panic of it has been printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: &tokio::net::TcpListener, broker: SocketAddr, rules: &Faults) {
    loop {
        // What cannot be accepted now, for want of files, may be later.
        let Ok((client, _)) = listener.accept().await else {
            sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let rules = rules.clone();
        // A connection that breaks is closed on both sides, which is all that there is to say of it.
        tokio::spawn(async move { relay(client, broker, &rules).await.ok() });
    }
}

async fn relay(mut client: TcpStream, broker: SocketAddr, rules: &Faults) -> io::Result<()> {
    let mut broker = TcpStream::connect(broker).await?;
    for stream in [&client, &broker] {
        stream.set_nodelay(true)?;
    }
    loop {
        let request = read_frame(&mut client).await?;
        let (api, client_id) = sender(&request)?;
        let fault = rules.strike(api, &client_id);
        match fault {
            Some(Fault::Delay(time)) => sleep(time).await,
            Some(Fault::DropRequest) => return be_silent(client).await,
            Some(Fault::Disconnect) => return Ok(()),
            // All of the relay, and so all of the broker as its clients see it.
            Some(Fault::Freeze(time)) => std::thread::sleep(time),
            Some(Fault::Error(_) | Fault::Throttle(_)) => {
                return Err(io::Error::other("a relay does not answer in the broker's place"));
            }
            None | Some(Fault::DelayReply(_) | Fault::DropReply | Fault::DisconnectAfter) => {}
        }
        broker.write_all(&request).await?;
        let answer = read_frame(&mut broker).await?;
        match fault {
            Some(Fault::DelayReply(time)) => sleep(time).await,
            Some(Fault::DropReply) => return be_silent(client).await,
            Some(Fault::DisconnectAfter) => return Ok(()),
            _ => {}
        }
        client.write_all(&answer).await?;
    }
}

/// A frame with its length before it.
async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if bytes > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("{bytes} bytes are no frame")));
    }
    let mut frame = Vec::with_capacity(4 + bytes);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.resize(4 + bytes, 0);
    stream.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

/// The API of a request and its client's id: key (i16), version (i16), correlation id (i32), client id (i16 and so many bytes; -1:
/// none), whatever the version of the header (Kafka protocol guide, request header v1 and v2).
fn sender(request: &[u8]) -> io::Result<(ApiKey, String)> {
    let number = |at: usize| Some(i16::from_be_bytes(request.get(at..at + 2)?.try_into().ok()?));
    let api = number(4).and_then(|key| ApiKey::try_from(key).ok());
    let length = number(12).map(|length| usize::try_from(length).unwrap_or(0));
    let client_id = length.and_then(|length| request.get(14..14 + length));
    match (api, client_id) {
        (Some(api), Some(client_id)) => Ok((api, String::from_utf8_lossy(client_id).into_owned())),
        _ => Err(io::Error::other("no request")),
    }
}

/// Takes what comes and answers nothing until the client ends it.
async fn be_silent(mut client: TcpStream) -> io::Result<()> {
    tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(|_| ())
}

/// The listener of a relay, known before the broker that advertises it is started.
pub(crate) fn listen() -> anyhow::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on loopback")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewatch_broker::{Broker, BrokerConfig, FaultRule};
    use tidewatch_topic_io::{Admin, KafkaConfig};

    use super::*;

    const DELAY: Duration = Duration::from_millis(60);

    /// A relay before a broker in memory, and what a client gets of its first `ApiVersions`: the bytes of the answer, 0 if the
    /// connection is closed, none if it is silent.
    fn ask(fault: Option<Fault>) -> Option<usize> {
        let config = tidewatch_test_brokers::embedded_config(BrokerConfig::in_memory());
        let broker = Broker::start(config).unwrap();
        let proxy = Proxy::start(listen().unwrap(), broker.address()).unwrap();
        if let Some(fault) = fault {
            let rule = FaultRule { client_id: Some("p".to_owned()), times: Some(1), ..FaultRule::new(fault) };
            proxy.faults().add(FaultRule { api: Some(ApiKey::ApiVersions), ..rule });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            // ApiVersions 0 of client `p1`, correlation id 7.
            client.write_all(&[0, 0, 0, 12, 0, 18, 0, 0, 0, 0, 0, 7, 0, 2, b'p', b'1']).await.unwrap();
            // Silence is known by its end, once the client has sent its own.
            let is_silent = matches!(fault, Some(Fault::DropReply | Fault::DropRequest));
            if is_silent {
                client.shutdown().await.unwrap();
            }
            match read_frame(&mut client).await {
                Ok(answer) => Some(answer.len()),
                Err(_) if is_silent => None,
                Err(_) => Some(0),
            }
        })
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let whole = ask(None).unwrap();
        assert!(whole > 100, "{whole} bytes name all APIs");
        assert_eq!(ask(Some(Fault::DropRequest)), None);
        assert_eq!(ask(Some(Fault::DropReply)), None);
        assert_eq!(ask(Some(Fault::Disconnect)), Some(0));
        assert_eq!(ask(Some(Fault::DisconnectAfter)), Some(0));
        for fault in [Fault::Delay(DELAY), Fault::DelayReply(DELAY), Fault::Freeze(DELAY)] {
            let began = std::time::Instant::now();
            assert_eq!(ask(Some(fault)), Some(whole), "{fault:?}");
            assert!(began.elapsed() >= DELAY, "{fault:?}");
        }
    }

    #[test]
    fn a_client_that_is_not_meant_notices_nothing() {
        let config = tidewatch_test_brokers::embedded_config(BrokerConfig::in_memory());
        let broker = Broker::start(config).unwrap();
        let proxy = Proxy::start(listen().unwrap(), broker.address()).unwrap();
        let other = FaultRule { client_id: Some("p".to_owned()), ..FaultRule::new(Fault::Disconnect) };
        let id = proxy.faults().add(other);
        let admin = Admin::connect(&KafkaConfig::at(&proxy.address().to_string())).unwrap();
        assert!(admin.partitions("none").is_err());
        assert_eq!(proxy.faults().befallen().get(&id), Some(&0));
    }

    #[test]
    fn what_is_no_request_is_no_ones() {
        assert!(sender(&[0, 0, 0, 1, 0]).is_err());
        assert!(sender(&[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]).is_err(), "no such API");
        let (api, client_id) = sender(&[0, 0, 0, 10, 0, 26, 0, 0, 0, 0, 0, 0, 0xff, 0xff]).unwrap();
        assert_eq!((api, client_id.as_str()), (ApiKey::EndTxn, ""));
    }
}
