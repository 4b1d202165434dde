//! Lines of events, what they are folded into, and the checkpoint of that.

use coord::plan::fold::{Board, Item, State};
use coord::queue::board::Reader;
use coord::queue::events::Event;
use coord::queue::ids::is_task_id;

/// One line.
pub fn event(bytes: &[u8]) {
    let Ok(first) = serde_json::from_slice::<Event>(bytes) else { return };
    let line = serde_json::to_vec(&first).expect("an event is written");
    assert!(!line.contains(&b'\n'), "an event is one line");
    let again: Event = serde_json::from_slice(&line).expect("what was written is read");
    assert_eq!(first, again);
    let mut board = Board::default();
    board.fold(&first);
    consistent(&mut board);
}

fn read(lines: &[u8]) -> Vec<Event> {
    lines.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Every task is counted once, can be found, and stands in the checkpoint as it stands here.
fn consistent(board: &mut Board) {
    let ids: Vec<String> = board.ids().collect();
    let counted: usize = State::ALL.iter().map(|s| board.count(*s)).sum();
    assert_eq!(counted, ids.len());
    let base = board.to_base();
    assert_eq!(base.items().count(), ids.len());
    for id in &ids {
        assert!(is_task_id(id), "{id:?} is no task");
        let item = board.get(id).expect("an id of the board is on it");
        assert_eq!(base.find(id), Some(item));
    }
    for state in State::ALL {
        let some = board.some(state, 20);
        assert_eq!(some.len(), board.count(state).min(20));
        assert!(some.iter().all(|id| board.get(id).is_some_and(|item| item.state == state)));
    }
    assert!(board.notices.latest.len() <= 5);
}

fn places(board: &Board) -> Vec<(String, (u32, u8))> {
    let mut places: Vec<(String, (u32, u8))> =
        board.ids().filter_map(|id| board.get(&id).map(|Item { place, .. }| (id, place))).collect();
    places.sort();
    places
}

/// Lines of events, in any order and more than once.
pub fn fold(bytes: &[u8]) {
    let events = read(bytes);
    let mut board = Board::default();
    events.iter().for_each(|event| board.fold(event));
    consistent(&mut board);
    let once = places(&board);
    events.iter().rev().for_each(|event| board.fold(event));
    assert_eq!(places(&board), once, "folding twice changes something");
    let mut backwards = Board::default();
    events.iter().rev().for_each(|event| backwards.fold(event));
    assert_eq!(places(&backwards), once, "the order changes something");
    consistent(&mut backwards);
    // A checkpoint in between changes nothing.
    let (before, after) = events.split_at(events.len() / 2);
    let mut reader = Reader::default();
    before.iter().for_each(|event| reader.board.fold(event));
    let mut reader = Reader::parse(reader.to_bytes()).expect("a checkpoint is read");
    after.iter().for_each(|event| reader.board.fold(event));
    assert_eq!(places(&reader.board), once, "the checkpoint changes something");
    consistent(&mut reader.board);
}

/// `stats/checkpoint`, which may be damaged: whatever it is, reading goes on, and what is written
/// then is read as the same.
pub fn checkpoint(bytes: &[u8]) {
    let Some(mut reader) = Reader::parse(bytes.to_vec()) else { return };
    reader.bytes();
    let ids: Vec<String> = reader.board.ids().collect();
    for state in State::ALL {
        reader.board.some(state, 20);
    }
    for id in ids.iter().map(String::as_str).chain(["W-1"]) {
        for k in ["submit", "claim", "end", "reopen", "progress"] {
            let event = Event { k: k.to_owned(), id: id.to_owned(), n: 1, ..Event::default() };
            reader.board.fold(&event);
        }
    }
    let written = reader.to_bytes();
    let mut again = Reader::parse(written.clone()).expect("a checkpoint is read");
    assert_eq!(again.bytes(), reader.bytes());
    assert_eq!(again.board.notices, reader.board.notices);
    assert_eq!(again.to_bytes(), written, "it changes from one writing to the next");
}
