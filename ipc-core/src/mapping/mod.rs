//! Mappings: one virtual memory area each, and all that the kernel can do with it.
#![allow(unsafe_code)]
#![allow(missing_docs, clippy::undocumented_unsafe_blocks)]
use rustix::mm::*;
use std::ptr::NonNull;

#[derive(Debug, Default)]
pub struct MapOptions {
    len: usize,
    read_only: bool,
    populate: bool,
}
impl MapOptions {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn len(mut self, len: usize) -> Self {
        self.len = len;
        self
    }
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
    pub fn populate(mut self) -> Self {
        self.populate = true;
        self
    }
    fn prot(&self) -> ProtFlags {
        if self.read_only {
            ProtFlags::READ
        } else {
            ProtFlags::READ | ProtFlags::WRITE
        }
    }
    pub fn map_file(&self, f: &impl std::os::fd::AsFd) -> std::io::Result<Mapping> {
        let p = unsafe {
            mmap(
                std::ptr::null_mut(),
                self.len,
                self.prot(),
                MapFlags::SHARED,
                f,
                0,
            )?
        };
        Ok(Mapping {
            p: NonNull::new(p.cast()).unwrap(),
            len: self.len,
        })
    }
    pub fn map_anonymous(&self) -> std::io::Result<Mapping> {
        let p = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                self.len,
                self.prot(),
                MapFlags::SHARED,
            )?
        };
        Ok(Mapping {
            p: NonNull::new(p.cast()).unwrap(),
            len: self.len,
        })
    }
}

#[derive(Debug)]
pub struct Mapping {
    p: NonNull<u8>,
    len: usize,
}
unsafe impl Send for Mapping {}
unsafe impl Sync for Mapping {}
impl Mapping {
    pub fn len(&self) -> usize {
        self.len
    }
    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        self.p
    }
}
impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = unsafe { munmap(self.p.as_ptr().cast(), self.len) };
    }
}
