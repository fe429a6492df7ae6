//! From a line of text to layers.
//!
//! ```text
//!   column   layer.layer. ... .source         from the top to the bottom; without a source it is the machine's disk
//!   layer    linear          all of what is below          linear@FIRST    from this sector on
//!            linear@FIRST+COUNT   so many of them          mirror          what is below, twice if the first read fails
//!            crypt=KEY       decrypted; 64 or 128 hexadecimal digits, as dm-crypt has them
//!            LAYER*TIMES     the same, so many times on top of each other
//!   bottom   disk            the machine's disk            file=NAME       a file of the archive, in its folder `boot`
//!            fail            fails
//!            linear(A,B,...)     A and then B; each is a column
//!            mirror(A,B,...)     either                    compare(A,B,...)    all, and they must be the same
//! ```
//!
//! A description is a part of a path, so it has no slash and at most 255 bytes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::linear::{Linear, Stretch};
use super::mirror::Mirror;
use super::sources::Failing;
use super::{Block, Layers, crypt};
use crate::mm::heap::{self, OutOfHeap, try_arc};

/// How many layers a description may have, in all.
pub(crate) const MOST_LAYERS: usize = 2048;
/// How deep columns may lie in each other.
const DEEPEST: usize = 4;

/// What is at the bottom.
pub(crate) trait Sources {
    /// The machine's disk.
    fn disk(&self) -> Result<Arc<dyn Block>, Why>;

    /// The file of the archive that is called `name`.
    fn file(&self, name: &[u8]) -> Result<&'static [u8], Why>;
}

/// What is wrong with a description, and at which of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bad {
    pub(crate) at: usize,
    pub(crate) why: Why,
}

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// No layer and no source is called that.
    Name,
    /// This does not belong here.
    Word,
    /// A number, or a key, that cannot be.
    Number,
    /// Columns lie too deep in each other, or layers are too many.
    TooMany,
    /// There is no such disk or file.
    NoSource,
    /// Sectors that what is below does not have.
    Outside,
    /// There is no memory.
    Memory,
}

/// Makes the layers that `text` describes.
pub(crate) fn build(text: &[u8], sources: &dyn Sources) -> Result<Layers, Bad> {
    let mut parser = Parser { text, at: 0, sources, layers: Layers::default() };
    parser.column(0)?;
    if parser.at < text.len() { parser.bad(Why::Word) } else { Ok(parser.layers) }
}

/// A description that is being read.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    sources: &'a dyn Sources,
    layers: Layers,
}

/// A layer that stands on one other, as it is described.
#[derive(Clone, Copy)]
enum Plain<'a> {
    Linear { first: u64, count: Option<u64> },
    Mirror,
    Crypt(&'a [u8]),
}

/// The kinds of layers that stand on several columns.
#[derive(Clone, Copy)]
enum Wide {
    Linear,
    Mirror,
    Compare,
}

/// What waits for what is below it: where it is described, what it is, and how often.
type Waiting<'a> = (usize, Plain<'a>, usize);

impl<'a> Parser<'a> {
    fn bad<T>(&self, why: Why) -> Result<T, Bad> {
        Err(Bad { at: self.at, why })
    }

    /// Reads a column, and makes it from its bottom; its top is the newest layer then.
    fn column(&mut self, depth: usize) -> Result<Arc<dyn Block>, Bad> {
        let mut waiting: Vec<Waiting<'a>> = Vec::new();
        let mut top = loop {
            let (start, name) = (self.at, self.word());
            if let Some(bottom) = self.bottom(name, depth)? {
                break bottom;
            }
            let layer = self.plain(name, start)?;
            let times = if self.take(b'*') { self.number()? } else { 1 };
            heap::reserve(&mut waiting, 1).or(self.bad(Why::Memory))?;
            waiting.push((start, layer, usize::try_from(times).or(self.bad(Why::Number))?));
            if !self.take(b'.') {
                break self.disk()?;
            }
        };
        while let Some((at, layer, times)) = waiting.pop() {
            top = (0..times).try_fold(top, |top, _| self.stand(at, layer, top))?;
        }
        Ok(top)
    }

    /// The source or the columns that are called `name`, if they are no layer on one other.
    fn bottom(&mut self, name: &[u8], depth: usize) -> Result<Option<Arc<dyn Block>>, Bad> {
        let wide = match name {
            b"disk" => return self.disk().map(Some),
            b"fail" => return self.push(try_arc(Failing).map(|failing| failing as _)).map(Some),
            b"file" => return self.file().map(Some),
            b"linear" => Wide::Linear,
            b"mirror" => Wide::Mirror,
            b"compare" => Wide::Compare,
            _ => return Ok(None),
        };
        if self.take(b'(') { self.columns(wide, depth + 1).map(Some) } else { Ok(None) }
    }

    fn disk(&mut self) -> Result<Arc<dyn Block>, Bad> {
        match self.sources.disk() {
            Ok(disk) => self.push(Ok(disk)),
            Err(why) => self.bad(why),
        }
    }

    fn file(&mut self) -> Result<Arc<dyn Block>, Bad> {
        if !self.take(b'=') {
            return self.bad(Why::Word);
        }
        let start = self.at;
        while self.text.get(self.at).is_some_and(|byte| !b",)".contains(byte)) {
            self.at += 1;
        }
        match self.sources.file(&self.text[start..self.at]) {
            Ok(bytes) => self.push(try_arc(super::Bytes(bytes)).map(|bytes| bytes as _)),
            Err(why) => self.bad(why),
        }
    }

    /// What stands on several columns, behind its opening parenthesis.
    fn columns(&mut self, wide: Wide, depth: usize) -> Result<Arc<dyn Block>, Bad> {
        if depth > DEEPEST {
            return self.bad(Why::TooMany);
        }
        let mut columns = Vec::new();
        loop {
            heap::reserve(&mut columns, 1).or(self.bad(Why::Memory))?;
            columns.push(self.column(depth)?);
            if self.take(b')') {
                return self.join(wide, columns);
            }
            if !self.take(b',') {
                return self.bad(Why::Word);
            }
        }
    }

    fn join(&mut self, wide: Wide, columns: Vec<Arc<dyn Block>>) -> Result<Arc<dyn Block>, Bad> {
        if let Wide::Linear = wide {
            let mut stretches = Vec::new();
            heap::reserve(&mut stretches, columns.len()).or(self.bad(Why::Memory))?;
            stretches.extend(columns.into_iter().map(|below| Stretch { count: below.sectors(), below, first: 0 }));
            let linear = Linear::new(stretches).ok_or(Bad { at: self.at, why: Why::Outside })?;
            return self.push(try_arc(linear).map(|linear| linear as _));
        }
        let mirror = Mirror::new(columns, matches!(wide, Wide::Compare)).ok_or(Bad { at: self.at, why: Why::Word })?;
        self.push(try_arc(mirror).map(|mirror| mirror as _))
    }

    /// What the layer `name`, whose description begins at `start`, is to be.
    fn plain(&mut self, name: &[u8], start: usize) -> Result<Plain<'a>, Bad> {
        match name {
            b"linear" => {
                let first = if self.take(b'@') { self.number()? } else { 0 };
                let count = if self.take(b'+') { Some(self.number()?) } else { None };
                Ok(Plain::Linear { first, count })
            }
            b"mirror" => Ok(Plain::Mirror),
            b"crypt" if self.take(b'=') => Ok(Plain::Crypt(self.word())),
            _ => Err(Bad { at: start, why: Why::Name }),
        }
    }

    /// Puts `layer`, which is described at `at`, on `below`.
    fn stand(&mut self, at: usize, layer: Plain<'_>, below: Arc<dyn Block>) -> Result<Arc<dyn Block>, Bad> {
        let made = match layer {
            Plain::Linear { first, count } => linear(below, first, count),
            Plain::Mirror => mirror(below),
            Plain::Crypt(digits) => decrypted(below, digits),
        };
        self.push(Ok(made.map_err(|why| Bad { at, why })?))
    }

    fn push(&mut self, layer: Result<Arc<dyn Block>, OutOfHeap>) -> Result<Arc<dyn Block>, Bad> {
        if self.layers.count() == MOST_LAYERS {
            return self.bad(Why::TooMany);
        }
        layer.and_then(|layer| self.layers.push(layer)).or(self.bad(Why::Memory))
    }

    /// Goes on if `byte` is next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Letters and digits, as many as there are.
    fn word(&mut self) -> &'a [u8] {
        let rest = self.text.get(self.at..).unwrap_or(&[]);
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        self.at += length;
        &rest[..length]
    }

    /// A decimal number.
    fn number(&mut self) -> Result<u64, Bad> {
        let start = self.at;
        let digits = core::str::from_utf8(self.word()).unwrap_or_default();
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain).ok_or(Bad { at: start, why: Why::Number })
    }
}

fn linear(below: Arc<dyn Block>, first: u64, count: Option<u64>) -> Result<Arc<dyn Block>, Why> {
    let count = count.map_or_else(|| below.sectors().checked_sub(first), Some).ok_or(Why::Outside)?;
    let mut stretches = Vec::new();
    heap::reserve(&mut stretches, 1).or(Err(Why::Memory))?;
    stretches.push(Stretch { below, first, count });
    let linear = Linear::new(stretches).ok_or(Why::Outside)?;
    try_arc(linear).map(|linear| linear as _).or(Err(Why::Memory))
}

/// Both legs are the same device: the second read is another try.
fn mirror(below: Arc<dyn Block>) -> Result<Arc<dyn Block>, Why> {
    let mut legs = Vec::new();
    heap::reserve(&mut legs, 2).or(Err(Why::Memory))?;
    legs.extend([Arc::clone(&below), below]);
    let mirror = Mirror::new(legs, false).ok_or(Why::Word)?;
    try_arc(mirror).map(|mirror| mirror as _).or(Err(Why::Memory))
}

/// `below`, decrypted with the key that `digits` spell.
fn decrypted(below: Arc<dyn Block>, digits: &[u8]) -> Result<Arc<dyn Block>, Why> {
    let mut key = [0; crypt::LONGEST_KEY];
    let key = key.get_mut(..digits.len() / 2).filter(|_| matches!(digits.len(), 64 | 128)).ok_or(Why::Number)?;
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = core::str::from_utf8(pair).or(Err(Why::Number))?;
        *byte = u8::from_str_radix(pair, 16).or(Err(Why::Number))?;
    }
    crypt::layer(below, key).ok_or(Why::Memory)
}
