//! `/proc/PID/maps`: a line for each mapping.

use core::fmt::{self, Write};

use super::{Inner, Memory, STACK_TOP};
use crate::boot;
use crate::mm::memory::mapping::Mapping;

impl Memory {
    /// Writes the lines to `out`, which may be out of room.
    pub(crate) fn write_maps(&self, out: &mut dyn Write) -> fmt::Result {
        let inner = self.lock();
        inner.mappings.iter().try_for_each(|mapping| inner.write_line(mapping, out))
    }
}

impl Inner {
    /// `00400000-00401000 r-xp 00001000 00:01 1          /bin/busybox`
    fn write_line(&self, mapping: &Mapping, out: &mut dyn Write) -> fmt::Result {
        let flag = |on, letter| if on { letter } else { '-' };
        let (start, end) = (mapping.start.get(), mapping.end.get());
        let (read, write) = (flag(!mapping.rights.is_none(), 'r'), flag(mapping.rights.may_write(), 'w'));
        let execute = flag(mapping.rights.may_execute(), 'x');
        let shared = if mapping.is_shared() { 's' } else { 'p' };
        write!(out, "{start:08x}-{end:08x} {read}{write}{execute}{shared} ")?;
        match boot::archive().holding(mapping.file) {
            Some((entry, offset)) => {
                write!(out, "{offset:08x} 00:01 1          /")?;
                entry.name.escape_ascii().try_for_each(|byte| out.write_char(char::from(byte)))?;
            }
            None => write!(out, "00000000 00:00 0          {}", self.name(mapping))?,
        }
        out.write_char('\n')
    }

    fn name(&self, mapping: &Mapping) -> &'static str {
        if mapping.end == STACK_TOP {
            "[stack]"
        } else if mapping.start < self.heap.1 && self.heap.0 < mapping.end {
            "[heap]"
        } else {
            ""
        }
    }
}
