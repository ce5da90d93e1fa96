//! The order in which the addresses of a name are tried.

use std::net::SocketAddr;
use std::time::Duration;

use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport, time};

use crate::host::Deadline;

/// How long one of several addresses may take to answer before the next is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connects to several addresses of one name in turn, giving each but the last a second. ureq gives the first of two
/// two thirds of all the time there is, so that one dead address (a black-holed IPv6, most often) would eat it.
#[derive(Debug, Default)]
pub struct SequentialConnector(TcpConnector);

impl<In: Transport> Connector<In> for SequentialConnector {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        if chained.is_some() || details.addrs.len() < 2 {
            return self.0.connect(details, chained);
        }
        // One of each family in turn (RFC 8305 section 4), beginning with the one that the resolver prefers.
        let first_is_v6 = details.addrs.first().is_some_and(|addr| addr.is_ipv6());
        let (mut same, mut other): (Vec<_>, Vec<_>) =
            details.addrs.iter().partition(|addr| addr.is_ipv6() == first_is_v6);
        let mut in_turn: Vec<&SocketAddr> = Vec::new();
        while !same.is_empty() || !other.is_empty() {
            if !same.is_empty() {
                in_turn.push(same.remove(0));
            }
            if !other.is_empty() {
                in_turn.push(other.remove(0));
            }
        }
        let last = in_turn.len() - 1;
        let deadline = Deadline::after(*details.timeout.after);
        for (turn, addr) in in_turn.into_iter().enumerate() {
            let left = if turn == last { deadline.left() } else { deadline.left().min(PATIENCE) };
            let mut addrs = details.resolver.empty();
            addrs.push(*addr);
            let alone = ConnectionDetails {
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
            match self.0.connect(&alone, None) {
                Err(ureq::Error::Io(_) | ureq::Error::Timeout(_)) if turn != last => {}
                done => return done,
            }
        }
        Err(ureq::Error::HostNotFound)
    }
}
