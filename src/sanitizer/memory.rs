//! Memory with a shadow: for each word, whether it was ever written, and who touched it since the last barrier.

/// An invocation of the dispatch that runs.
#[derive(Clone, Copy)]
pub struct Who {
    pub workgroup: u32,
    pub lane: u32,
    /// Barriers that its workgroup has passed.
    pub epoch: u32,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Access {
    Read,
    Write,
    Atomic,
    /// Written with what it had, as part of a vector.
    Beside,
}

/// Who touched a word last in one way.
#[derive(Clone, Copy, Default)]
struct Touch {
    /// One more than the number of the dispatch; 0: nobody.
    dispatch: u32,
    workgroup: u32,
    lane: u32,
    epoch: u32,
    /// Whether other lanes touched it too in that epoch.
    several_lanes: bool,
    /// Whether other workgroups touched it too in that dispatch.
    several_workgroups: bool,
}

impl Touch {
    /// Whether somebody else touched the word, with no barrier since.
    fn conflicts(&self, dispatch: u32, who: Who) -> bool {
        self.dispatch == dispatch + 1
            && (self.several_workgroups
                || self.workgroup != who.workgroup
                || (self.epoch == who.epoch && (self.several_lanes || self.lane != who.lane)))
    }

    fn add(&mut self, dispatch: u32, who: Who) {
        let same_dispatch = self.dispatch == dispatch + 1;
        let other_workgroup = same_dispatch && self.workgroup != who.workgroup;
        let same_epoch = same_dispatch && !other_workgroup && self.epoch == who.epoch;
        *self = Self {
            dispatch: dispatch + 1,
            workgroup: who.workgroup,
            lane: who.lane,
            epoch: who.epoch,
            several_lanes: same_epoch && (self.several_lanes || self.lane != who.lane),
            several_workgroups: other_workgroup || (same_dispatch && self.several_workgroups),
        };
    }
}

#[derive(Clone, Copy, Default)]
struct Shadow {
    written: bool,
    fenced: bool,
    read: Touch,
    wrote: Touch,
    atomic: Touch,
}

/// A buffer, or a workgroup's variable.
#[derive(Clone, Default)]
pub struct Memory {
    words: Vec<u32>,
    shadow: Vec<Shadow>,
    dispatch: u32,
}

/// What was wrong with an access.
#[derive(Clone, Copy, PartialEq)]
pub enum Wrong {
    Fenced,
    NeverWritten,
    Race,
}

impl Memory {
    /// Memory that nobody has written yet.
    pub fn new(words: usize) -> Self {
        Self { words: vec![0; words], shadow: vec![Shadow::default(); words], dispatch: 0 }
    }

    /// How many words there are.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Memory whose accesses are not checked, which needs a twentieth of the room.
    pub fn unchecked(words: Vec<u32>) -> Self {
        Self { words, shadow: Vec::new(), dispatch: 0 }
    }

    /// Writes words from outside.
    pub fn write(&mut self, first: usize, words: &[u32]) {
        self.words[first..first + words.len()].copy_from_slice(words);
        for shadow in self.shadow.iter_mut().skip(first).take(words.len()) {
            shadow.written = true;
        }
    }

    /// A copy of some of the words, with what is known of them.
    pub fn part(&self, words: std::ops::Range<usize>) -> Self {
        let shadow = self.shadow[words.clone()].to_vec();
        Self { words: self.words[words].to_vec(), shadow, dispatch: self.dispatch }
    }

    /// Puts a copy back that [`Memory::part`] made, with what was done to it.
    pub fn put(&mut self, first: usize, part: Self) {
        let words = first..first + part.words.len();
        self.words[words.clone()].copy_from_slice(&part.words);
        self.shadow[words].copy_from_slice(&part.shadow);
        self.dispatch = self.dispatch.max(part.dispatch);
    }

    /// Takes all words as not written any more.
    pub fn forget(&mut self) {
        for shadow in &mut self.shadow {
            shadow.written = false;
        }
    }

    /// Fences words off: nobody may touch them.
    pub fn fence(&mut self, words: std::ops::Range<usize>) {
        for shadow in &mut self.shadow[words] {
            shadow.fenced = true;
        }
    }

    /// All words, written or not.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Words of these that nobody has written.
    pub fn unwritten(&self, words: std::ops::Range<usize>) -> usize {
        self.shadow[words].iter().filter(|shadow| !shadow.written).count()
    }

    pub(super) fn get(&self, at: usize) -> u32 {
        self.words[at]
    }

    pub(super) fn set(&mut self, at: usize, word: u32) {
        self.words[at] = word;
    }

    /// Notes an access, and says what is wrong with it.
    pub(super) fn touch(&mut self, at: usize, access: Access, who: Who) -> Option<Wrong> {
        let (dispatch, shadow) = (self.dispatch, self.shadow.get_mut(at)?);
        if shadow.fenced {
            return Some(Wrong::Fenced);
        }
        let conflicts = |touch: &Touch| touch.conflicts(dispatch, who);
        let races = match access {
            Access::Read => conflicts(&shadow.wrote) || conflicts(&shadow.atomic),
            Access::Write | Access::Beside => {
                conflicts(&shadow.wrote) || conflicts(&shadow.atomic) || conflicts(&shadow.read)
            }
            Access::Atomic => conflicts(&shadow.wrote) || conflicts(&shadow.read),
        };
        let unknown = matches!(access, Access::Read | Access::Atomic) && !shadow.written;
        match access {
            Access::Read => shadow.read.add(dispatch, who),
            Access::Write | Access::Beside => shadow.wrote.add(dispatch, who),
            Access::Atomic => shadow.atomic.add(dispatch, who),
        }
        shadow.written |= matches!(access, Access::Write | Access::Atomic);
        match (races, unknown) {
            (true, _) => Some(Wrong::Race),
            (_, true) => Some(Wrong::NeverWritten),
            _ => None,
        }
    }
}

/// Between two dispatches everything is synchronised.
pub fn begin_dispatch(buffers: &mut super::Buffers) {
    for memory in buffers.values_mut() {
        memory.dispatch += 1;
    }
}
