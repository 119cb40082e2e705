//! What is sent: one batch per connection at a time, owned by the ring until the kernel is done with it.

use bytes::Bytes;
use smallvec::SmallVec;

/// The most pieces that one `sendmsg` takes.
const PIECES_MAX: usize = 1024;

/// A piece of a batch.
#[derive(Debug)]
pub enum Chunk {
    /// A buffer that comes back with the completion.
    Owned(Vec<u8>),
    /// Bytes that are shared with other batches.
    Shared(Bytes),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// What one send carries.
#[derive(Debug, Default)]
pub struct SendBatch {
    /// In the order of the bytes.
    pub chunks: SmallVec<[Chunk; 1]>,
}

impl SendBatch {
    /// All bytes of the batch.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.as_slice().len()).sum()
    }
}

/// A batch on its way. Boxed, so that what the kernel reads does not move.
pub(super) struct InFlightSend {
    pub(super) batch: SendBatch,
    pub(super) fd: i32,
    /// Bytes that are written.
    pub(super) sent: usize,
    pieces: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// What to submit next.
pub(super) enum Submission {
    /// One piece: address and length.
    Send(*const u8, u32),
    /// Several pieces.
    SendMsg(*const libc::msghdr),
    /// All is written.
    Done,
}

impl InFlightSend {
    pub(super) fn new(fd: i32, batch: SendBatch) -> Box<Self> {
        // SAFETY: all zeroes is a valid `msghdr`: null pointers with lengths of zero.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Self {
            batch,
            fd,
            sent: 0,
            pieces: Vec::new(),
            header,
        })
    }

    /// What is left after `sent` bytes.
    pub(super) fn next(&mut self) -> Submission {
        let mut skip = self.sent;
        self.pieces.clear();
        for chunk in &self.batch.chunks {
            let bytes = chunk.as_slice();
            if skip >= bytes.len() {
                skip -= bytes.len();
                continue;
            }
            let left = &bytes[skip..];
            skip = 0;
            self.pieces.push(libc::iovec {
                iov_base: left.as_ptr().cast_mut().cast(),
                iov_len: left.len(),
            });
            if self.pieces.len() == PIECES_MAX {
                break;
            }
        }
        match self.pieces.as_slice() {
            [] => Submission::Done,
            [piece] => {
                // A longer piece goes out in several sends.
                let length = u32::try_from(piece.iov_len).unwrap_or(u32::MAX);
                Submission::Send(piece.iov_base.cast_const().cast(), length)
            }
            pieces => {
                self.header.msg_iov = pieces.as_ptr().cast_mut();
                self.header.msg_iovlen = pieces.len();
                Submission::SendMsg(&raw const self.header)
            }
        }
    }
}
