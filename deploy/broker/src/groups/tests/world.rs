//! Clients with names and a broker, driven by lines of text; the broker is ours in a time of its own, or any over TCP.
//!
//! ```text
//! a joins [OPTIONS]        with what a knows of itself; options stay: v4, as INSTANCE, with PROTOCOL,PROTOCOL, type T,
//!                          session 10s, rebalance 60s; PROTOCOL:t+u tells that it reads topics t and u
//! a syncs [b=1 c=2]        of the generation that a knows, with these assignments
//! a beats | a leaves       heartbeat, leave
//! a forgets                its id and generation, as a process does that starts anew
//! remove INSTANCE ...      leave by instance ids, as an administrator
//! a commits t/0=5 ["m"]    as a member; nobody commits: without one
//! p1 stages t/0=5 [as a]   transactional offsets of producer 1, in a's name or nobody's
//! p1 commits | p1 aborts   its transaction's end
//! fetch [stable] all | t/0 t/1
//! delete t/0 ... | delete | list | describe | topic t is gone
//! group h                  all further lines are about this group
//! wait 10s | restart | rewrite | disk full | disk free
//! ```
//! An answer is that of the one who acts, and after `;` the answers of others that came with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, EndTxnRequest,
    FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, JoinGroupResponse, LeaveGroupRequest,
    ListGroupsRequest, MetadataRequest, ProducerId, SyncGroupResponse, TransactionalId,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::requests::{self, code, duration, milliseconds, text};

/// The code of each `TOPIC/PARTITION` in an answer: each API has types of its own for the same.
macro_rules! codes_by_place {
    ($response:ident) => {
        $response
            .topics
            .iter()
            .flat_map(|topic| {
                let place = |partition| format!("{}/{partition}", topic.name.as_str());
                topic.partitions.iter().map(move |one| (place(one.partition_index), one.error_code))
            })
            .collect()
    };
}

/// A broker, and the time it lives in.
pub(crate) trait Broker {
    /// Sends a client's request on a connection of its own.
    fn send<R: Request<Response: 'static> + 'static>(
        &mut self,
        client: &str,
        version: i16,
        request: R,
    ) -> Pending<R::Response>;
    /// Lets time go by.
    fn wait(&mut self, time: Duration);
    /// Kills the broker and starts it again.
    fn restart(&mut self);
    /// Does what only this broker can; whether it understands.
    fn do_own(&mut self, line: &str) -> bool;
    /// Gives the broker time for more answers; false if no more can come, or it took too long since `since`.
    fn settle(&mut self, since: Instant) -> bool;
    /// Lets a request that is to wait arrive.
    fn let_arrive(&mut self);
}

/// Gives the answer once it has come. Panics if the broker has forgotten it.
pub(crate) type Pending<T> = Box<dyn FnMut() -> Option<T>>;

/// Clients of a broker.
pub(crate) struct World<B> {
    pub(crate) broker: B,
    /// Before the names of groups, topics and transactions, so that they are this world's own.
    prefix: String,
    group: String,
    clients: BTreeMap<String, Client>,
    producers: BTreeMap<String, (ProducerId, i16)>,
    joins: Vec<(String, Pending<JoinGroupResponse>)>,
    syncs: Vec<(String, Pending<SyncGroupResponse>)>,
    pub(crate) transaction_timeout_ms: i32,
    /// What a client knows before its first line.
    pub(crate) novice: Client,
    /// The generations that were told: number, leader's id, protocol.
    pub(crate) told: Vec<(i32, String, String)>,
}

/// What a client knows of itself.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) instance: Option<String>,
    /// Of JoinGroup; that of other requests is the last one that is not later.
    pub(crate) version: i16,
    pub(crate) kind: String,
    pub(crate) protocols: Vec<String>,
    pub(crate) session_ms: i32,
    pub(crate) rebalance_ms: i32,
}

/// An answer that was waited for.
enum Heard {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

impl Default for Client {
    fn default() -> Self {
        Self {
            id: String::new(),
            generation: -1,
            protocol: None,
            instance: None,
            version: 9,
            kind: "consumer".to_owned(),
            protocols: vec!["range".to_owned()],
            session_ms: 10_000,
            rebalance_ms: 60_000,
        }
    }
}

impl<B: Broker> World<B> {
    /// A world with topics t and u of three partitions.
    pub(crate) fn new(broker: B, prefix: &str) -> Self {
        let mut world = Self {
            broker,
            prefix: prefix.to_owned(),
            group: String::new(),
            clients: BTreeMap::new(),
            producers: BTreeMap::new(),
            joins: Vec::new(),
            syncs: Vec::new(),
            transaction_timeout_ms: 60_000,
            novice: Client::default(),
            told: Vec::new(),
        };
        let names = ["t", "u"].map(|topic| format!("{prefix}{topic}"));
        world.ask("", 5, requests::create_topics(&names));
        let metadata = MetadataRequest::default().with_topics(Some(requests::metadata_topics(&names)));
        world.ask_until("", 9, &metadata, |response| {
            let is_there = |partition: &_| requests::is_led(partition);
            response.topics.iter().all(|topic| topic.partitions.iter().filter(|p| is_there(p)).count() == 3)
        });
        world.enter_group("g");
        world
    }

    /// Runs a script: lines `what is done => what is answered`. Shows the whole transcript where it differs.
    pub(crate) fn check(&mut self, script: &str) {
        let (mut expected, mut seen) = (String::new(), String::new());
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (command, answer) = line.split_once("=>").unwrap_or((line, "-"));
            let (command, answer) = (command.trim(), answer.trim());
            expected += &format!("{command:<32} => {answer}\n");
            seen += &format!("{command:<32} => {}\n", self.run(command, Some(answer)));
            assert!(expected == seen, "expected:\n{expected}\nseen:\n{seen}");
        }
    }

    /// Does what a line says and gives the answers to it. A broker that needs time is given some while they are not those
    /// that are expected.
    pub(crate) fn run(&mut self, line: &str, expected: Option<&str>) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let started = Instant::now();
        let mut own = self.act(line, &words);
        let mut others = Vec::new();
        loop {
            others.extend(self.answered());
            let answers = self.render(&words, &own, &others);
            if expected.is_none_or(|expected| answers == expected) {
                if self.is_anybody_waiting() {
                    self.broker.let_arrive();
                    // Nobody else is answered after all.
                    others.extend(self.answered());
                }
                return self.render(&words, &own, &others);
            }
            if !self.broker.settle(started) {
                return answers;
            }
            if matches!(words[0], "fetch" | "describe" | "list") {
                own = self.act(line, &words);
            }
        }
    }

    /// What a client takes for the present generation; -1 if it knows none.
    pub(crate) fn generation(&self, who: &str) -> i32 {
        self.clients.get(who).map_or(-1, |client| client.generation)
    }

    /// Whether requests wait for their answer.
    pub(crate) fn is_anybody_waiting(&self) -> bool {
        !self.joins.is_empty() || !self.syncs.is_empty()
    }

    /// The answer of the one who acts, if it is there at once; nothing if there is none to give.
    fn act(&mut self, line: &str, words: &[&str]) -> String {
        match *words {
            [who, "joins", ref options @ ..] => return self.join(who, options),
            [who, "syncs", ref assignments @ ..] => return self.sync(who, assignments),
            [who, "beats"] => return self.beat(who),
            [who, "leaves"] => return self.leave(who),
            ["remove", ref instances @ ..] => return self.remove(instances),
            [producer, ending @ ("commits" | "aborts")] => return self.end(producer, ending == "commits"),
            [who, "commits", ref offsets @ ..] => return self.commit(who, offsets),
            [producer, "stages", ref offsets @ .., "as", who] => return self.stage(producer, offsets, who),
            [producer, "stages", ref offsets @ ..] => return self.stage(producer, offsets, "nobody"),
            ["fetch", "stable", ref partitions @ ..] => return self.fetch(partitions, true),
            ["fetch", ref partitions @ ..] => return self.fetch(partitions, false),
            ["delete"] => return self.delete(),
            ["delete", ref partitions @ ..] => return self.delete_offsets(partitions),
            ["list"] => return self.list(),
            ["describe"] => return self.describe(),
            ["topic", topic, "is", "gone"] => return self.delete_topic(topic),
            [who, "forgets"] => {
                let client = self.client(who);
                (client.id, client.generation) = (String::new(), -1);
            }
            ["group", group] => self.enter_group(group),
            ["wait", time] => self.broker.wait(duration(time)),
            ["restart"] => {
                self.joins.clear();
                self.syncs.clear();
                self.broker.restart();
                let group = self.group.strip_prefix(&self.prefix).unwrap().to_owned();
                self.enter_group(&group);
            }
            _ => assert!(self.broker.do_own(line), "not understood: {line}"),
        }
        String::new()
    }

    fn render(&self, words: &[&str], own: &str, others: &[(String, Heard)]) -> String {
        let tell = |(who, heard): &(String, Heard)| format!("{who}: {}", self.tell(heard));
        let mut answers: Vec<String> = others.iter().map(tell).collect();
        answers.sort();
        let mine = format!("{}: ", words[0]);
        if !own.is_empty() {
            answers.insert(0, own.to_owned());
        } else if self.waits(words) {
            answers.insert(0, "waits".to_owned());
        } else if let Some(place) = answers.iter().position(|answer| answer.starts_with(&mine)) {
            let own = answers.remove(place);
            answers.insert(0, own[mine.len()..].to_owned());
        }
        if answers.is_empty() { "-".to_owned() } else { answers.join("; ") }
    }

    /// Whether the request of this line waits.
    fn waits(&self, words: &[&str]) -> bool {
        match words {
            [who, "joins", ..] => self.joins.iter().any(|(waiting, _)| waiting == who),
            [who, "syncs", ..] => self.syncs.iter().any(|(waiting, _)| waiting == who),
            _ => false,
        }
    }

    /// The answers that have come; who hears one learns from it.
    fn answered(&mut self) -> Vec<(String, Heard)> {
        let mut heard = Vec::new();
        self.joins.retain_mut(|(who, pending)| {
            let response = pending();
            let is_waiting = response.is_none();
            heard.extend(response.map(|response| (who.clone(), Heard::Join(response))));
            is_waiting
        });
        self.syncs.retain_mut(|(who, pending)| {
            let response = pending();
            let is_waiting = response.is_none();
            heard.extend(response.map(|response| (who.clone(), Heard::Sync(response))));
            is_waiting
        });
        for (who, heard) in &heard {
            if let Heard::Join(response) = heard {
                self.learn(who, response);
            }
        }
        heard
    }

    /// Asks and waits for the answer.
    fn ask<R: Request<Response: 'static> + 'static>(&mut self, who: &str, version: i16, request: R) -> R::Response {
        let mut pending = self.broker.send(who, version, request);
        let started = Instant::now();
        loop {
            if let Some(response) = pending() {
                return response;
            }
            assert!(self.broker.settle(started), "no answer");
        }
    }

    /// Asks until the answer is good, or the broker has had enough time for a good one.
    fn ask_until<R: Request<Response: 'static> + Clone + 'static>(
        &mut self,
        who: &str,
        version: i16,
        request: &R,
        is_good: impl Fn(&R::Response) -> bool,
    ) -> R::Response {
        let started = Instant::now();
        loop {
            let response = self.ask(who, version, request.clone());
            if is_good(&response) || !self.broker.settle(started) {
                return response;
            }
        }
    }

    fn enter_group(&mut self, group: &str) {
        self.group = format!("{}{group}", self.prefix);
        let id = text(&self.group);
        self.find_coordinator(&id, 0);
        // It may not have loaded the group yet.
        let request = DescribeGroupsRequest::default().with_groups(vec![id.into()]);
        self.ask_until("", 5, &request, |response| response.groups[0].error_code == 0);
    }

    fn find_coordinator(&mut self, key: &str, kind: i8) {
        let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(kind);
        self.ask_until("", 2, &request, |response| response.error_code == 0);
    }

    fn client(&mut self, who: &str) -> &mut Client {
        self.clients.entry(who.to_owned()).or_insert_with(|| self.novice.clone())
    }

    /// The name of the client that has this id; `?` if none has.
    fn name(&self, id: &str) -> String {
        let client = self.clients.iter().find(|(_, client)| client.id == id && !id.is_empty());
        client.map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
    }

    fn join(&mut self, who: &str, options: &[&str]) -> String {
        let client = self.client(who);
        let mut options = options.iter().copied();
        while let Some(option) = options.next() {
            let mut value = || options.next().unwrap_or_else(|| panic!("{option} of what?"));
            match option {
                "as" => client.instance = Some(value().to_owned()),
                "type" => client.kind = value().to_owned(),
                "with" => client.protocols = value().split(',').map(str::to_owned).collect(),
                "session" => client.session_ms = milliseconds(value()),
                "rebalance" => client.rebalance_ms = milliseconds(value()),
                version => client.version = version.strip_prefix('v').unwrap().parse().unwrap(),
            }
        }
        let client = client.clone();
        let request = requests::join(&client, &self.group, &self.prefix);
        let pending = self.broker.send(who, client.version, request);
        self.joins.push((who.to_owned(), pending));
        String::new()
    }

    /// A client learns from the answer to its join.
    fn learn(&mut self, who: &str, response: &JoinGroupResponse) {
        let error = ResponseError::try_from_code(response.error_code);
        if error.is_none() || error == Some(ResponseError::MemberIdRequired) {
            self.client(who).id = response.member_id.to_string();
        }
        if error.is_none() {
            let protocol = response.protocol_name.as_deref().unwrap_or("-").to_owned();
            self.client(who).generation = response.generation_id;
            self.client(who).protocol = Some(protocol.clone());
            self.told.push((response.generation_id, response.leader.to_string(), protocol));
        }
    }

    fn tell(&self, heard: &Heard) -> String {
        let response = match heard {
            Heard::Sync(response) => return requests::synced(response),
            Heard::Join(response) if response.error_code != 0 => return code(response.error_code),
            Heard::Join(response) => response,
        };
        let protocol = response.protocol_name.as_deref().unwrap_or("-");
        let mut answer = format!("generation {} {protocol} of {}", response.generation_id, self.name(&response.leader));
        if !response.members.is_empty() {
            let mut members: Vec<String> = response.members.iter().map(|member| self.name(&member.member_id)).collect();
            members.sort();
            answer += &format!(", members {}", members.join(" "));
        }
        if response.skip_assignment {
            answer += ", skips";
        }
        answer
    }

    fn sync(&mut self, who: &str, assignments: &[&str]) -> String {
        let client = self.client(who).clone();
        let assignments = assignments.iter().map(|assignment| {
            let (name, part) = assignment.split_once('=').unwrap();
            let id = self.clients.get(name).map_or(name, |client| &client.id);
            (id.to_owned(), part.to_owned())
        });
        let request = requests::sync(&client, &self.group, assignments.collect());
        let pending = self.broker.send(who, client.version.min(5), request);
        self.syncs.push((who.to_owned(), pending));
        String::new()
    }

    fn beat(&mut self, who: &str) -> String {
        let client = self.client(who).clone();
        let request = HeartbeatRequest::default()
            .with_group_id(text(&self.group).into())
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text))
            .with_generation_id(client.generation);
        code(self.ask(who, client.version.min(4), request).error_code)
    }

    fn leave(&mut self, who: &str) -> String {
        let client = self.client(who).clone();
        if client.version < 3 {
            let request =
                LeaveGroupRequest::default().with_group_id(text(&self.group).into()).with_member_id(text(&client.id));
            return code(self.ask(who, client.version, request).error_code);
        }
        let identity = MemberIdentity::default()
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text));
        self.leave_all(who, client.version.min(5), vec![identity])
    }

    fn remove(&mut self, instances: &[&str]) -> String {
        let identity = |id: &&str| MemberIdentity::default().with_group_instance_id(Some(text(id)));
        self.leave_all("admin", 5, instances.iter().map(identity).collect())
    }

    fn leave_all(&mut self, who: &str, version: i16, leaving: Vec<MemberIdentity>) -> String {
        let request = LeaveGroupRequest::default().with_group_id(text(&self.group).into()).with_members(leaving);
        let response = self.ask(who, version, request);
        if response.error_code != 0 {
            return code(response.error_code);
        }
        response.members.iter().map(|member| code(member.error_code)).collect::<Vec<_>>().join(" ")
    }

    fn commit(&mut self, who: &str, offsets: &[&str]) -> String {
        let client = self.clients.get(who).cloned().unwrap_or_default();
        let request = requests::commit(&client, &self.group, &self.prefix, offsets);
        let response = self.ask(who, client.version.clamp(2, 9), request);
        requests::codes_of(offsets, &self.prefix, codes_by_place!(response))
    }

    fn stage(&mut self, producer: &str, offsets: &[&str], who: &str) -> String {
        let name = TransactionalId(text(&format!("{}{producer}", self.prefix)));
        let (id, epoch) = match self.producers.get(producer) {
            Some(producer) => *producer,
            None => self.initialise(producer, &name),
        };
        let group: StrBytes = text(&self.group);
        let add = AddOffsetsToTxnRequest::default()
            .with_transactional_id(name.clone())
            .with_producer_id(id)
            .with_producer_epoch(epoch)
            .with_group_id(group.into());
        let added = self.ask_until(producer, 3, &add, |response| response.error_code == 0).error_code;
        if added != 0 {
            return code(added);
        }
        let client = self.clients.get(who).cloned().unwrap_or_default();
        let request = requests::stage(&client, &self.group, &self.prefix, offsets)
            .with_transactional_id(name)
            .with_producer_id(id)
            .with_producer_epoch(epoch);
        let response = self.ask(producer, 3, request);
        requests::codes_of(offsets, &self.prefix, codes_by_place!(response))
    }

    fn initialise(&mut self, producer: &str, name: &TransactionalId) -> (ProducerId, i16) {
        self.find_coordinator(name, 1);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(name.clone()))
            .with_transaction_timeout_ms(self.transaction_timeout_ms);
        let response = self.ask_until(producer, 3, &request, |response| response.error_code == 0);
        assert_eq!(response.error_code, 0, "{producer} is not initialised");
        let known = (response.producer_id, response.producer_epoch);
        self.producers.insert(producer.to_owned(), known);
        known
    }

    fn end(&mut self, producer: &str, is_commit: bool) -> String {
        let Some((id, epoch)) = self.producers.get(producer).copied() else { return "not begun".to_owned() };
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&format!("{}{producer}", self.prefix))))
            .with_producer_id(id)
            .with_producer_epoch(epoch)
            .with_committed(is_commit);
        // The last transaction may still be about to end.
        let concurrent = ResponseError::ConcurrentTransactions.code();
        code(self.ask_until(producer, 3, &request, |response| response.error_code != concurrent).error_code)
    }

    /// Asked in several versions: each tells the same.
    fn fetch(&mut self, partitions: &[&str], is_stable: bool) -> String {
        let request = requests::fetch_of_groups(&self.group, &self.prefix, partitions, is_stable);
        let new = self.ask("", 9, request);
        assert_eq!(new.groups[0].error_code, 0);
        let new = requests::fetched_of_groups(&new, &self.prefix);
        let versions = if is_stable { 7..=7 } else { 5..=7 };
        for version in versions {
            let request = requests::fetch(&self.group, &self.prefix, partitions, is_stable);
            let old = self.ask("", version, request);
            assert_eq!(old.error_code, 0);
            let old = requests::fetched(&old, &self.prefix);
            if old != new {
                return format!("in version 9 {new}, in version {version} {old}");
            }
        }
        new
    }

    fn delete(&mut self) -> String {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![text(&self.group).into()]);
        requests::codes(self.ask("", 2, request).results.iter().map(|result| result.error_code))
    }

    fn delete_offsets(&mut self, partitions: &[&str]) -> String {
        let response = self.ask("", 0, requests::delete_offsets(&self.group, &self.prefix, partitions));
        if response.error_code != 0 {
            return code(response.error_code);
        }
        requests::codes_of(partitions, &self.prefix, codes_by_place!(response))
    }

    fn delete_topic(&mut self, topic: &str) -> String {
        let names = vec![text(&format!("{}{topic}", self.prefix)).into()];
        let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(10_000);
        requests::codes(self.ask("", 5, request).responses.iter().map(|result| result.error_code))
    }

    fn list(&mut self) -> String {
        let mut groups = self.ask("", 5, ListGroupsRequest::default()).groups;
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        let own = groups.iter().filter_map(|group| {
            let id = group.group_id.strip_prefix(self.prefix.as_str())?;
            assert_eq!(group.group_type.as_str(), "classic");
            Some(format!("{id} {} {:?}", group.group_state, group.protocol_type.as_str()))
        });
        own.collect::<Vec<_>>().join(", ")
    }

    fn describe(&mut self) -> String {
        let request = DescribeGroupsRequest::default().with_groups(vec![text(&self.group).into()]);
        let response = self.ask("", 6, request);
        let group = &response.groups[0];
        if group.error_code != 0 {
            return format!("{} {}", group.group_state, code(group.error_code));
        }
        let mut members: Vec<String> = group
            .members
            .iter()
            .map(|member| {
                let (name, part) = (self.name(&member.member_id), &member.member_assignment);
                let instance = member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                format!("{name}{instance}={}", String::from_utf8_lossy(part))
            })
            .collect();
        members.sort();
        format!("{} {} [{}]", group.group_state, group.protocol_data, members.join(" "))
    }
}
