//! The order in which the program tries the addresses of a host name.

use std::net::SocketAddr;
use std::time::Duration;

use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport, time};

use crate::host::Deadline;

/// Longest wait for one of several addresses before the program tries the next.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Connects to the addresses of one host name in turn, with one second for each but the last.
///
/// Of two addresses, ureq gives the first two thirds of the whole timeout. One dead address would use up that
/// time. Most often it is an IPv6 address whose packets are dropped.
#[derive(Debug, Default)]
pub struct SequentialConnector(TcpConnector);

impl<In: Transport> Connector<In> for SequentialConnector {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        if chained.is_some() || details.addrs.len() < 2 {
            return self.0.connect(details, chained);
        }
        // Address families alternate (RFC 8305 section 4). The family that the resolver prefers comes first.
        let first_is_v6 = details.addrs.first().is_some_and(|addr| addr.is_ipv6());
        let (mut same, mut other): (Vec<_>, Vec<_>) =
            details.addrs.iter().partition(|addr| addr.is_ipv6() == first_is_v6);
        let mut interleaved: Vec<&SocketAddr> = Vec::new();
        while !same.is_empty() || !other.is_empty() {
            if !same.is_empty() {
                interleaved.push(same.remove(0));
            }
            if !other.is_empty() {
                interleaved.push(other.remove(0));
            }
        }
        let last = interleaved.len() - 1;
        let deadline = Deadline::after(*details.timeout.after);
        for (turn, addr) in interleaved.into_iter().enumerate() {
            let left = if turn == last { deadline.left() } else { deadline.left().min(MAX_WAIT) };
            let mut addrs = details.resolver.empty();
            addrs.push(*addr);
            let single = ConnectionDetails {
                uri: details.uri,
                addrs,
                config: details.config,
                request_level: details.request_level,
                resolver: details.resolver,
                now: (details.current_time)(),
                timeout: NextTimeout { after: time::Duration::Exact(left), ..details.timeout },
                current_time: details.current_time.clone(),
                run_connector: details.run_connector.clone(),
                register_shutdown: details.register_shutdown.clone(),
            };
            match self.0.connect(&single, None) {
                Err(ureq::Error::Io(_) | ureq::Error::Timeout(_)) if turn != last => {}
                done => return done,
            }
        }
        Err(ureq::Error::HostNotFound)
    }
}
