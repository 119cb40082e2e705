//! SUBSCRIBE and UNSUBSCRIBE in the model.

use super::session::{Asking, DueSuback, DueUnsuback, Subscription};
use super::{Model, topics};

impl Model {
    pub(super) fn subscribe(
        &mut self,
        conn: usize,
        identifier: u16,
        subscription_identifier: u32,
        filters: &[(&'static str, u8)],
    ) {
        let client = self.conns[&conn].client;
        for (filter, options) in filters {
            let subscription = Subscription {
                options: *options,
                identifier: subscription_identifier,
                since: self.event,
                acknowledged: None,
            };
            if topics::shared(filter).is_some() {
                self.join_group(client, filter, subscription);
                continue;
            }
            let since = self.event;
            let session = self.sessions.get_mut(&client).expect("a session");
            let former = session.subscriptions.remove(filter);
            let wanted = match options >> 4 & 3 {
                0 => true,
                1 => former.is_none(),
                _ => false,
            };
            let options = (subscription.qos(), subscription_identifier);
            let of_filter = |one: &&mut Asking| one.filter == *filter;
            for asking in session.asking.iter_mut().filter(of_filter) {
                asking.no_local |= subscription.no_local();
                if wanted {
                    asking.must = false; // the new one takes its place
                } else {
                    asking.options.push(options); // it goes on as the new one says
                }
            }
            if wanted {
                session.asking.push(Asking {
                    filter,
                    options: vec![options],
                    no_local: subscription.no_local(),
                    since,
                    connection: session.connections,
                    told: false,
                    must: false,
                    cancelled: false,
                    gone: false,
                });
            }
            let former = former.unwrap_or_else(|| subscription.clone());
            let subscription = Subscription {
                since: former.since,
                acknowledged: former.acknowledged,
                ..subscription
            };
            session.subscriptions.insert(filter, subscription);
        }
        let due = DueSuback {
            identifier,
            codes: filters.iter().map(|(_, options)| options & 3).collect(),
            filters: filters.iter().map(|(filter, _)| *filter).collect(),
            at: self.event,
        };
        self.conn(conn).due.subacks.push_back(due);
    }

    /// SUBACK is sent: from now on nothing may be missed.
    pub(super) fn suback_sent(&mut self, conn: usize, due: &DueSuback) {
        let client = self.conns[&conn].client;
        let event = self.event;
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if session.conn != Some(conn) {
            return;
        }
        for place in 0..session.asking.len() {
            let filter = session.asking[place].filter;
            let is_latest = session.asking[place + 1..]
                .iter()
                .all(|one| one.filter != filter);
            let asking = &mut session.asking[place];
            if asking.since == due.at {
                asking.told = true;
                asking.must = is_latest && !asking.cancelled;
            }
        }
        for filter in &due.filters {
            if let Some(subscription) = session.subscriptions.get_mut(filter)
                && subscription.since <= due.at
            {
                subscription.acknowledged.get_or_insert(event);
            }
            if let Some(group) = self.groups.get_mut(filter)
                && let Some(member) = group.members.get_mut(&client)
                && member.since <= due.at
            {
                member.acknowledged.get_or_insert(event);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, conn: usize, identifier: u16, filters: Vec<&'static str>) {
        let (client, version) = (self.conns[&conn].client, self.conns[&conn].version);
        let mut codes = Vec::new();
        for filter in &filters {
            let session = self.sessions.get_mut(&client).expect("a session");
            let existed = match topics::shared(filter) {
                Some(_) => self.leave_group(client, filter),
                None => session.subscriptions.remove(filter).is_some(),
            };
            codes.push(if existed { 0 } else { 0x11 });
            let session = self.sessions.get_mut(&client).expect("a session");
            for asking in session
                .asking
                .iter_mut()
                .filter(|one| one.filter == *filter)
            {
                asking.must = false;
                asking.cancelled = true;
            }
        }
        if version != crate::packet::Version::V5 {
            codes.clear();
        }
        let due = DueUnsuback {
            identifier,
            codes,
            filters,
            at: self.event,
        };
        self.conn(conn).due.unsubacks.push_back(due);
    }

    /// UNSUBACK is sent: no retained message is begun any more.
    pub(super) fn unsuback_sent(&mut self, conn: usize, due: &DueUnsuback) {
        let client = self.conns[&conn].client;
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if session.conn != Some(conn) {
            return;
        }
        for asking in &mut session.asking {
            asking.gone |= due.filters.contains(&asking.filter) && asking.since < due.at;
        }
    }
}
