//! Every input in every state of a bucket, as a table to be read: what is in no row changes nothing.

use super::bucket::{Around, Coming, Goes, Input, OFFER, Offered, Op, Stand, State, Want};
use super::event::Claimed;
use super::gathering::NodeId;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1000);
const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// State, input, the state then (`-`: the same), and what is to be done: to the kernel in capitals, answers behind the
/// request that they are for.
const TABLE: &str = "
foreign             | start                    | coming, said         | say claim
foreign             | stop, starts at a member | -                    | 9: alone
foreign             | stop                     | -                    | 9: alone
foreign             | claimed: free            | -                    | say release of nothing
foreign             | given                    | -                    | say release of nothing
foreign             | seen: owned              | held since 20        | say holds
foreign             | seen: owned for a while  | offered              | say holds
coming, unsaid      | start                    | coming, unsaid       |
coming, unsaid      | stop, starts at a member | foreign              | 1: failed, 9: alone
coming, unsaid      | stop                     | foreign              | 1: failed, 9: alone
coming, unsaid      | the agent gives up       | foreign              |
coming, unsaid      | claimed: free            | coming, mine since 8 | TAKE
coming, unsaid      | claimed: unlike          | foreign              | 1: unlike
coming, unsaid      | given                    | coming, mine since 8 | TAKE
coming, unsaid      | whole                    | coming, said         | say claim
coming, unsaid      | taken                    | held since 20        | say took 20, 1: owned
coming, unsaid      | not taken                | foreign              | 1: failed
coming, unsaid      | seen: owned              | held since 20        | 1: owned, say holds
coming, unsaid      | 5 seconds                | -                    | TAKE
coming, said        | start                    | coming, said         |
coming, said        | stop, starts at a member | foreign              | 1: failed, 9: alone
coming, said        | stop                     | foreign              | 1: failed, 9: alone
coming, said        | the agent gives up       | foreign              |
coming, said        | claimed: free            | coming, mine since 8 | TAKE
coming, said        | claimed: promised        | coming, promised     |
coming, said        | claimed: kept            | coming, kept         |
coming, said        | claimed: unlike          | foreign              | 1: unlike
coming, said        | given                    | coming, mine since 8 | TAKE
coming, said        | another gathering        | coming, unsaid       |
coming, said        | no gathering             | coming, unsaid       |
coming, said        | taken                    | held since 20        | say took 20, 1: owned
coming, said        | not taken                | foreign              | 1: failed
coming, said        | seen: owned              | held since 20        | 1: owned, say holds
coming, said        | 5 seconds                | -                    | TAKE
coming, promised    | start                    | coming, promised     |
coming, promised    | stop, starts at a member | foreign              | 1: failed, 9: alone
coming, promised    | stop                     | foreign              | 1: failed, 9: alone
coming, promised    | the agent gives up       | foreign              |
coming, promised    | claimed: free            | coming, mine since 8 | TAKE
coming, promised    | claimed: unlike          | foreign              | 1: unlike
coming, promised    | given                    | coming, mine since 8 | TAKE
coming, promised    | free                     | coming, said         | say claim
coming, promised    | another gathering        | coming, unsaid       |
coming, promised    | no gathering             | coming, unsaid       |
coming, promised    | taken                    | held since 20        | say took 20, 1: owned
coming, promised    | not taken                | foreign              | 1: failed
coming, promised    | seen: owned              | held since 20        | 1: owned, say holds
coming, promised    | 5 seconds                | -                    | TAKE
coming, kept        | start                    | coming, kept         |
coming, kept        | stop, starts at a member | foreign              | 1: failed, 9: alone
coming, kept        | stop                     | foreign              | 1: failed, 9: alone
coming, kept        | the agent gives up       | foreign              |
coming, kept        | claimed: free            | coming, mine since 8 | TAKE
coming, kept        | claimed: unlike          | foreign              | 1: unlike
coming, kept        | given                    | coming, mine since 8 | TAKE
coming, kept        | free                     | coming, said         | say claim
coming, kept        | confirmed                | foreign              | 1: kept
coming, kept        | another gathering        | coming, unsaid       |
coming, kept        | no gathering             | coming, unsaid       |
coming, kept        | taken                    | held since 20        | say took 20, 1: owned
coming, kept        | not taken                | foreign              | 1: failed
coming, kept        | seen: owned              | held since 20        | 1: owned, say holds
coming, kept        | 5 seconds                | -                    | TAKE
coming, mine        | start                    | coming, mine since 7 |
coming, mine        | stop, starts at a member | foreign              | 1: failed, say release of nothing, 9: alone
coming, mine        | stop                     | foreign              | 1: failed, say release of nothing, 9: alone
coming, mine        | the agent gives up       | foreign              | say release of nothing
coming, mine        | claimed: free            | coming, mine since 8 | TAKE
coming, mine        | claimed: unlike          | foreign              | 1: unlike
coming, mine        | given                    | coming, mine since 8 | TAKE
coming, mine        | another gathering        | coming, unsaid       |
coming, mine        | no gathering             | coming, unsaid       |
coming, mine        | loses                    | coming, kept         |
coming, mine        | taken                    | held since 7         | 1: owned
coming, mine        | not taken                | foreign              | 1: failed, say release of nothing
coming, mine        | seen: owned              | held since 20        | 1: owned, say holds
coming, mine        | a second                 | -                    | TAKE
coming, mine        | 3.6 seconds              | -                    | TAKE
coming, mine        | 5 seconds                | -                    | TAKE
held                | start                    | -                    | 9: owned
held                | stop, starts at a member | offered, unheard     | OFFER
held                | stop                     | -                    | 9: alone
held                | another claims: promised | -                    | look and say
held                | another claims: kept     | -                    | look and say
held                | another claims: unlike   | -                    | look and say
held                | loses                    | offered, goes        | GIVE
held                | seen: nothing            | foreign              | say holds
held                | seen: owned for a while  | offered              | say holds
offered, unheard    | start                    | offered, unheard, comes back | say claim
offered, unheard    | stop, starts at a member | offered, unheard     |
offered, unheard    | stop                     | offered, unheard     |
offered, unheard    | the agent gives up       | offered              |
offered, unheard    | another claims: promised | offered, unheard, goes | GIVE
offered, unheard    | the offer is heard       | offered              | 1: left
offered, unheard    | no gathering             | offered, unheard, goes | GIVE
offered, unheard    | whole                    | offered              | 1: left
offered, unheard    | loses                    | offered, unheard, goes | GIVE
offered, unheard    | nobody stays             | offered, unheard, goes | GIVE
offered, unheard    | offered                  | offered, unheard     | say offer
offered, unheard    | not offered              | held since 3         | 1: alone
offered, unheard    | kept                     | held since 3         |
offered, unheard    | not kept                 | foreign              |
offered, unheard    | given up                 | foreign              | say release, 1: left, DRAIN
offered, unheard    | seen: nothing            | foreign              | 1: left, say holds
offered, unheard    | seen: owned              | held since 20        | 1: alone, say holds
offered, unheard    | a second                 | offered, unheard, goes | GIVE
offered, unheard    | 3.6 seconds              | offered, unheard, goes | GIVE
offered, unheard    | 5 seconds                | foreign              | say release, 1: left, DRAIN
offered             | start                    | offered, comes back  | say claim
offered             | stop, starts at a member | -                    | 9: left
offered             | stop                     | -                    | 9: left
offered             | another claims: promised | offered, goes        | GIVE
offered             | another gathering        | offered              |
offered             | no gathering             | offered, goes        | GIVE
offered             | loses                    | offered, goes        | GIVE
offered             | nobody stays             | offered, goes        | GIVE
offered             | offered                  | offered              | say offer
offered             | not offered              | held since 3         |
offered             | kept                     | held since 3         |
offered             | not kept                 | foreign              |
offered             | given up                 | foreign              | say release, DRAIN
offered             | seen: nothing            | foreign              | say holds
offered             | seen: owned              | held since 20        | say holds
offered             | 3.6 seconds              | offered, goes        | GIVE
offered             | 5 seconds                | foreign              | say release, DRAIN
offered, comes back | start                    | offered, comes back  | say claim
offered, comes back | stop, starts at a member | offered, unheard     | say offer, 2: failed
offered, comes back | stop                     | offered, unheard     | say offer, 2: failed
offered, comes back | claimed: free            | offered, comes back  | KEEP
offered, comes back | another claims: promised | offered, comes back, goes | GIVE
offered, comes back | another gathering        | offered, comes back  |
offered, comes back | no gathering             | offered, comes back, goes | GIVE
offered, comes back | whole                    | -                    | say claim
offered, comes back | loses                    | offered, comes back, goes | GIVE
offered, comes back | offered                  | offered, comes back  | say offer
offered, comes back | not offered              | held since 3         | 2: owned
offered, comes back | kept                     | held since 3         | 2: owned
offered, comes back | not kept                 | coming, mine since 3 | TAKE
offered, comes back | given up                 | coming, said         | say release, DRAIN, say claim
offered, comes back | seen: nothing            | coming, said         | say holds, say claim
offered, comes back | seen: owned              | held since 20        | 2: owned, say holds
offered, comes back | 3.6 seconds              | offered, comes back, goes | GIVE
offered, comes back | 5 seconds                | coming, said         | say release, DRAIN, say claim
offered, goes       | start                    | offered, comes back, goes | say claim
offered, goes       | stop, starts at a member | -                    | 9: left
offered, goes       | stop                     | -                    | 9: left
offered, goes       | another claims: promised | offered, goes        | GIVE
offered, goes       | another gathering        | offered, goes        |
offered, goes       | no gathering             | offered, goes        | GIVE
offered, goes       | loses                    | offered, goes        | GIVE
offered, goes       | offered                  | offered, goes        | say offer
offered, goes       | not offered              | held since 3         |
offered, goes       | kept                     | held since 3         |
offered, goes       | not kept                 | foreign              |
offered, goes       | given up                 | foreign              | say release, DRAIN
offered, goes       | seen: nothing            | foreign              | say holds
offered, goes       | a second                 | offered, goes        | GIVE
offered, goes       | 3.6 seconds              | offered, goes        | GIVE
offered, goes       | 5 seconds                | foreign              | say release, DRAIN
";

fn coming(stand: Stand) -> State {
    State::Coming(Coming {
        tickets: vec![1],
        since: NOW - Duration::from_secs(1),
        stand,
    })
}

fn offered(tickets: &[u64], back: bool, goes: bool) -> State {
    State::Offered(Offered {
        epoch: 3,
        until: Some(NOW + Duration::from_secs(4)),
        heard: tickets.is_empty(),
        tickets: tickets.to_vec(),
        patience: NOW + Duration::from_millis(100),
        goes,
        back: back.then(|| (vec![2], NOW)),
    })
}

fn states() -> Vec<(&'static str, State)> {
    vec![
        ("foreign", State::Foreign),
        ("coming, unsaid", coming(Stand::Unsaid)),
        ("coming, said", coming(Stand::Said)),
        ("coming, promised", coming(Stand::Promised)),
        ("coming, kept", coming(Stand::Kept)),
        ("coming, mine", coming(Stand::Mine(7))),
        ("held", State::Held { epoch: 3 }),
        ("offered, unheard", offered(&[1], false, false)),
        ("offered", offered(&[], false, false)),
        ("offered, comes back", offered(&[], true, false)),
        ("offered, goes", offered(&[], false, true)),
    ]
}

fn inputs() -> Vec<(&'static str, Input)> {
    vec![
        ("start", Input::Start(9, NOW)),
        ("stop, starts at a member", Input::Stop(9, Goes::ToAMember)),
        ("stop", Input::Stop(9, Goes::Away)),
        ("the agent gives up", Input::Cancel(1)),
        ("claimed: free", Input::Claimed(Claimed::Free, 8)),
        (
            "claimed: promised",
            Input::Claimed(Claimed::Promised(OTHER), 8),
        ),
        ("claimed: kept", Input::Claimed(Claimed::Kept(OTHER), 8)),
        ("claimed: unlike", Input::Claimed(Claimed::Unlike(OTHER), 8)),
        (
            "another claims: promised",
            Input::Wanted(Claimed::Promised(ME)),
        ),
        ("another claims: kept", Input::Wanted(Claimed::Kept(ME))),
        ("another claims: unlike", Input::Wanted(Claimed::Unlike(ME))),
        ("the offer is heard", Input::OfferHeard),
        ("given", Input::Given(8)),
        ("free", Input::Free),
        ("confirmed", Input::Confirmed),
        ("another gathering", Input::Gathered(true)),
        ("no gathering", Input::Gathered(false)),
        ("whole", Input::Whole),
        ("loses", Input::Loses),
        ("nobody stays", Input::Unclaimed),
        ("taken", Input::Done(Op::Take, true)),
        ("not taken", Input::Done(Op::Take, false)),
        ("offered", Input::Done(Op::Offer, true)),
        ("not offered", Input::Done(Op::Offer, false)),
        ("kept", Input::Done(Op::Keep, true)),
        ("not kept", Input::Done(Op::Keep, false)),
        ("given up", Input::Done(Op::Give, true)),
        ("not given up", Input::Done(Op::Give, false)),
        ("drained", Input::Done(Op::Drain, true)),
        ("adopted", Input::Done(Op::Adopted, true)),
        ("seen: nothing", Input::Seen(None)),
        ("seen: owned", Input::Seen(Some(None))),
        ("seen: owned for a while", Input::Seen(Some(Some(OFFER)))),
    ]
}

/// The moments at which time changes something, as seconds from [`NOW`].
const TIMES: [(&str, f64); 3] = [("a second", 1.0), ("3.6 seconds", 3.6), ("5 seconds", 5.0)];

fn name(state: &State) -> String {
    match state {
        State::Foreign => "foreign".into(),
        State::Coming(coming) => match coming.stand {
            Stand::Unsaid => "coming, unsaid".into(),
            Stand::Said => "coming, said".into(),
            Stand::Promised => "coming, promised".into(),
            Stand::Kept => "coming, kept".into(),
            Stand::Mine(epoch) => format!("coming, mine since {epoch}"),
        },
        State::Held { epoch } => format!("held since {epoch}"),
        State::Offered(offered) => {
            let waits = if offered.tickets.is_empty() {
                ""
            } else {
                ", unheard"
            };
            let back = if offered.back.is_some() {
                ", comes back"
            } else {
                ""
            };
            let goes = if offered.goes { ", goes" } else { "" };
            format!("offered{waits}{back}{goes}")
        }
    }
}

fn words(wants: &[Want]) -> String {
    let word = |want: &Want| match want {
        Want::Do(op) => format!("{op:?}").to_uppercase(),
        Want::SayTook(epoch) => format!("say took {epoch}"),
        Want::Answer(ticket, answer) => format!("{ticket}: {answer:?}").to_lowercase(),
        Want::Confirm => "look and say".into(),
        Want::SayClaim => "say claim".into(),
        Want::SayOffer => "say offer".into(),
        Want::SayRelease(true) => "say release".into(),
        Want::SayRelease(false) => "say release of nothing".into(),
        Want::SayHolds => "say holds".into(),
    };
    let all: Vec<String> = wants.iter().map(word).collect();
    all.join(", ")
}

fn table() -> String {
    let around = |now| Around {
        now,
        whole: true,
        doubt: Duration::ZERO,
        next: 20,
    };
    let mut rows = String::new();
    for (from, state) in states() {
        let mut row = |input: &str, what: Input, now: Duration| {
            let (then, wants) = state.clone().step(what, around(now));
            let stays = then == state;
            if stays && wants.is_empty() {
                return;
            }
            let then = if stays { "-".to_owned() } else { name(&then) };
            rows += format!("{from:19} | {input:24} | {then:20} | {}", words(&wants)).trim_end();
            rows += "\n";
        };
        for (input, what) in inputs() {
            row(input, what, NOW);
        }
        for (time, seconds) in TIMES {
            row(time, Input::Time, NOW + Duration::from_secs_f64(seconds));
        }
    }
    rows
}

#[test]
fn every_input_in_every_state_does_what_the_table_says() {
    let table = table();
    for (n, (is, right)) in table.lines().zip(TABLE.trim_start().lines()).enumerate() {
        assert_eq!(is, right, "row {n}");
    }
    assert_eq!(
        table.lines().count(),
        TABLE.trim_start().lines().count(),
        "{table}"
    );
}
