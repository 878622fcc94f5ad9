//! `wasi:filesystem`, function by function.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use cap_fs_ext::{DirExt, SystemTimeSpec};
use cap_std::fs::Metadata;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use types::{DescriptorFlags, ErrorCode, Filesize, OpenFlags, PathFlags};

use super::carry::carry;
use super::descriptor::{Descriptor, Directory, File, Wanted, identity};
use super::listing::Listing;
use super::metadata::{hash, stat, time};
use super::stream::{Place, Reader, Writer, read_at, write};
use crate::grant::leads_out;
use crate::sandbox::state::State;

// WASI's own bindings are used, with the resources of wasmtime-wasi in their types. A `Resource`
// is a number and a type that is only a name: what stands behind the number in the table is ours.
type Handle = Resource<types::Descriptor>;
type Entries = Resource<types::DirectoryEntryStream>;

/// The longest path, in bytes: `PATH_MAX` without the zero at its end.
const MAX_PATH: usize = 4095;

impl State {
    fn descriptor(&mut self, handle: &Handle) -> FsResult<Descriptor> {
        let ours = Resource::<Descriptor>::new_borrow(handle.rep());
        Ok(self.table().get(&ours)?.clone())
    }

    fn file(&mut self, handle: &Handle) -> FsResult<Arc<File>> {
        match self.descriptor(handle)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Directory(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    fn writable(&mut self, handle: &Handle) -> FsResult<Arc<File>> {
        let file = self.file(handle)?;
        if !file.writable {
            // Opened for reading; that the grant allows no more was said where it was opened.
            return Err(ErrorCode::NotPermitted.into());
        }
        Ok(file)
    }

    fn directory(&mut self, handle: &Handle) -> FsResult<Arc<Directory>> {
        match self.descriptor(handle)? {
            Descriptor::Directory(directory) => Ok(directory),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    /// A directory that paths lead on from, none of which is longer than the system allows: what is longer
    /// would only be work for whoever takes it apart.
    fn leading(&mut self, handle: &Handle, paths: &[&str]) -> FsResult<Arc<Directory>> {
        if paths.iter().any(|path| path.len() > MAX_PATH) {
            return Err(ErrorCode::NameTooLong.into());
        }
        let directory = self.directory(handle)?;
        self.network.sought().enters();
        Ok(directory)
    }

    /// The same, where something is looked for there.
    fn looking(&mut self, handle: &Handle, path: &str) -> FsResult<Arc<Directory>> {
        let directory = self.leading(handle, &[path])?;
        let sought = self.network.sought();
        sought.looks_for(&directory.origin.grant, path);
        Ok(directory)
    }

    fn handle(&mut self, descriptor: Descriptor) -> FsResult<Handle> {
        Ok(Resource::new_own(self.table().push(descriptor)?.rep()))
    }
}

/// Does something with a directory on a thread that may block. Errors are told apart by the path
/// that led to them.
async fn within<T: Send + 'static>(
    directory: Arc<Directory>,
    path: String,
    work: impl FnOnce(&Directory, &str) -> io::Result<T> + Send + 'static,
) -> FsResult<T> {
    let shared = Arc::clone(&directory.origin.shared);
    let done = shared
        .run(move || work(&directory, &path).map_err(|error| directory.origin.fault(error, &path)))
        .await?;
    Ok(done)
}

/// Does something with whatever it is on a thread that may block.
async fn with<T: Send + 'static>(
    descriptor: Descriptor,
    work: impl FnOnce(&Descriptor) -> io::Result<T> + Send + 'static,
) -> FsResult<T> {
    let shared = Arc::clone(&descriptor.origin().shared);
    Ok(shared.run(move || Ok(work(&descriptor)?)).await?)
}

impl preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        self.network.sought().directories = true;
        let mut handles = Vec::new();
        for directory in self.directories.granted() {
            let path = directory.origin.grant.guest.clone();
            let handle = self.handle(Descriptor::Directory(directory));
            let handle = handle.map_err(|error| match error.downcast() {
                Ok(code) => code.into(),
                Err(error) => error,
            })?;
            handles.push((handle, path));
        }
        let guests = handles.iter().map(|(_, guest)| guest.as_str());
        let sought = self.network.sought();
        sought.no_directories = handles.is_empty();
        sought.told(guests);
        Ok(handles)
    }
}

impl types::Host for State {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        let code = error.downcast()?;
        let nothing_there = matches!(code, ErrorCode::NoEntry);
        self.network.sought().is_refused(nothing_there);
        self.directories.told(code);
        Ok(code)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table().get(&error)?;
        Ok(error.downcast_ref::<ErrorCode>().copied())
    }
}

impl types::HostDescriptor for State {
    async fn advise(
        &mut self,
        handle: Handle,
        _offset: Filesize,
        _length: Filesize,
        _advice: types::Advice,
    ) -> FsResult<()> {
        // Advice is not heeded: what it would do to the page cache is not the guest's to say.
        self.file(&handle).map(drop)
    }

    async fn sync_data(&mut self, handle: Handle) -> FsResult<()> {
        self.sync(handle).await
    }

    async fn sync(&mut self, handle: Handle) -> FsResult<()> {
        with(self.descriptor(&handle)?, |descriptor| match descriptor {
            Descriptor::File(file) => file.file.sync_all(),
            Descriptor::Directory(directory) => directory.dir.open(".")?.sync_all(),
        })
        .await
    }

    async fn get_flags(&mut self, handle: Handle) -> FsResult<DescriptorFlags> {
        Ok(match self.descriptor(&handle)? {
            Descriptor::File(file) => {
                let flag = |holds, flag| {
                    if holds {
                        flag
                    } else {
                        DescriptorFlags::empty()
                    }
                };
                flag(file.readable, DescriptorFlags::READ)
                    | flag(file.writable, DescriptorFlags::WRITE)
            }
            Descriptor::Directory(directory) => match directory.origin.grant.mode {
                crate::grant::Mode::Ro => DescriptorFlags::READ,
                crate::grant::Mode::Rw => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
            },
        })
    }

    async fn get_type(&mut self, handle: Handle) -> FsResult<types::DescriptorType> {
        Ok(match self.descriptor(&handle)? {
            Descriptor::File(_) => types::DescriptorType::RegularFile,
            Descriptor::Directory(_) => types::DescriptorType::Directory,
        })
    }

    async fn set_size(&mut self, handle: Handle, size: Filesize) -> FsResult<()> {
        let file = self.writable(&handle)?;
        let shared = Arc::clone(&file.origin.shared);
        let work = move || {
            let grown = size.saturating_sub(file.file.metadata()?.len());
            file.origin.shared.write(grown)?;
            Ok(file.file.set_len(size)?)
        };
        Ok(shared.run(work).await?)
    }

    async fn set_times(
        &mut self,
        handle: Handle,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let descriptor = self.descriptor(&handle)?;
        let origin = descriptor.origin();
        origin.changeable()?;
        let still = origin.shared.still();
        let (accessed, modified) = (time(accessed, still)?, time(modified, still)?);
        with(descriptor, move |descriptor| match descriptor {
            Descriptor::File(file) => {
                let mut times = std::fs::FileTimes::new();
                let absolute = |time| match time {
                    SystemTimeSpec::Absolute(time) => cap_std::time::SystemTime::into_std(time),
                    SystemTimeSpec::SymbolicNow => SystemTime::now(),
                };
                if let Some(time) = accessed {
                    times = times.set_accessed(absolute(time));
                }
                if let Some(time) = modified {
                    times = times.set_modified(absolute(time));
                }
                file.file.set_times(times)
            }
            Descriptor::Directory(directory) => directory.dir.set_times(".", accessed, modified),
        })
        .await
    }

    async fn read(
        &mut self,
        handle: Handle,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let file = self.file(&handle)?;
        let shared = Arc::clone(&file.origin.shared);
        let read = shared
            .run(move || read_at(&file.file, length, offset))
            .await?;
        // Nothing asked for is nothing read, and not the end.
        let ended = length > 0 && read.is_empty();
        Ok((read, ended))
    }

    async fn write(
        &mut self,
        handle: Handle,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let file = self.writable(&handle)?;
        let shared = Arc::clone(&file.origin.shared);
        let work = move || {
            file.origin.shared.write(bytes.len() as u64)?;
            write(&file.origin.shared, &file.file, &bytes, Place::At(offset))?;
            Ok(bytes.len() as u64)
        };
        Ok(shared.run(work).await?)
    }

    async fn read_directory(&mut self, handle: Handle) -> FsResult<Entries> {
        let listing = Listing::new(self.directory(&handle)?).await?;
        Ok(Resource::new_own(self.table().push(listing)?.rep()))
    }

    async fn create_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        let directory = self.leading(&handle, &[&path])?;
        directory.origin.changeable()?;
        let shared = Arc::clone(&directory.origin.shared);
        let work = move || directory.create(&path, |dir| dir.create_dir(&path));
        Ok(shared.run(work).await?)
    }

    async fn stat(&mut self, handle: Handle) -> FsResult<types::DescriptorStat> {
        let descriptor = self.descriptor(&handle)?;
        let still = descriptor.origin().shared.still();
        let metadata = with(descriptor, Descriptor::metadata).await?;
        Ok(stat(&metadata, still))
    }

    async fn stat_at(
        &mut self,
        handle: Handle,
        flags: PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let directory = self.looking(&handle, &path)?;
        let still = directory.origin.shared.still();
        let metadata = within(directory, path, metadata_at(flags)).await?;
        self.network.sought().found();
        Ok(stat(&metadata, still))
    }

    async fn set_times_at(
        &mut self,
        handle: Handle,
        flags: PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let directory = self.leading(&handle, &[&path])?;
        directory.origin.changeable()?;
        let still = directory.origin.shared.still();
        let (accessed, modified) = (time(accessed, still)?, time(modified, still)?);
        if !flags.contains(PathFlags::SYMLINK_FOLLOW) {
            return within(directory, path, move |directory, path| {
                directory.dir.set_symlink_times(path, accessed, modified)
            })
            .await;
        }
        let shared = Arc::clone(&directory.origin.shared);
        let work = move || directory.set_times(&path, accessed, modified);
        Ok(shared.run(work).await?)
    }

    async fn link_at(
        &mut self,
        handle: Handle,
        old_flags: PathFlags,
        old_path: String,
        new_handle: Handle,
        new_path: String,
    ) -> FsResult<()> {
        let old = self.leading(&handle, &[&old_path, &new_path])?;
        let new = self.directory(&new_handle)?;
        // In both: by a second name elsewhere, what may only be read here could be written to.
        old.origin.changeable()?;
        new.origin.changeable()?;
        if old_flags.contains(PathFlags::SYMLINK_FOLLOW) {
            return Err(ErrorCode::Invalid.into());
        }
        let shared = Arc::clone(&new.origin.shared);
        let work = move || {
            new.counting(|| {
                carry(
                    (&old, &old_path),
                    (&new, &new_path),
                    |from, name, to, new_name| from.hard_link(name, to, new_name),
                )
            })
        };
        Ok(shared.run(work).await?)
    }

    async fn open_at(
        &mut self,
        handle: Handle,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Handle> {
        let directory = match open_flags.contains(OpenFlags::CREATE) {
            true => self.leading(&handle, &[&path])?,
            false => self.looking(&handle, &path)?,
        };
        let synchronised = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(synchronised) {
            return Err(ErrorCode::Unsupported.into());
        }
        let making = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        if open_flags.contains(OpenFlags::DIRECTORY) && open_flags.intersects(making) {
            return Err(ErrorCode::Invalid.into());
        }
        let write = flags.contains(DescriptorFlags::WRITE);
        let wanted = Wanted {
            follow: path_flags.contains(PathFlags::SYMLINK_FOLLOW),
            // A file that is not to be written to is to be read, whatever the flags say.
            read: flags.contains(DescriptorFlags::READ) || !write,
            write,
            create: open_flags.contains(OpenFlags::CREATE),
            exclusive: open_flags.contains(OpenFlags::EXCLUSIVE),
            truncate: open_flags.contains(OpenFlags::TRUNCATE),
            directory: open_flags.contains(OpenFlags::DIRECTORY),
        };
        let shared = Arc::clone(&directory.origin.shared);
        let opened = shared.run(move || directory.open(&path, wanted)).await?;
        self.network.sought().found();
        self.handle(opened)
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        let ours = Resource::<Descriptor>::new_own(handle.rep());
        self.table().delete(ours)?;
        Ok(())
    }

    async fn readlink_at(&mut self, handle: Handle, path: String) -> FsResult<String> {
        let target = within(self.leading(&handle, &[&path])?, path, |directory, path| {
            directory.dir.read_link(path)
        })
        .await?;
        let target = target.into_os_string().into_string();
        target.map_err(|_| ErrorCode::IllegalByteSequence.into())
    }

    async fn remove_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        let directory = self.leading(&handle, &[&path])?;
        directory.origin.changeable()?;
        within(directory, path, |directory, path| {
            directory.dir.remove_dir(path)
        })
        .await
    }

    async fn rename_at(
        &mut self,
        handle: Handle,
        old_path: String,
        new_handle: Handle,
        new_path: String,
    ) -> FsResult<()> {
        let old = self.leading(&handle, &[&old_path, &new_path])?;
        let new = self.directory(&new_handle)?;
        old.origin.changeable()?;
        new.origin.changeable()?;
        let shared = Arc::clone(&old.origin.shared);
        let work = move || {
            carry(
                (&old, &old_path),
                (&new, &new_path),
                |from, name, to, new_name| from.rename(name, to, new_name),
            )
        };
        Ok(shared.run(work).await?)
    }

    async fn symlink_at(
        &mut self,
        handle: Handle,
        target: String,
        new_path: String,
    ) -> FsResult<()> {
        let directory = self.leading(&handle, &[&target, &new_path])?;
        directory.origin.changeable()?;
        // A link that leads out is of no use to the guest, which cannot follow it, but whoever
        // reads the directory later may.
        if leads_out(&target) {
            let origin = &directory.origin;
            return Err(origin.shared.leading_out(&origin.grant, &target).into());
        }
        let shared = Arc::clone(&directory.origin.shared);
        let work = move || {
            // The directory has it, as a file has what is written to it.
            directory.origin.shared.write(target.len() as u64)?;
            directory.create(&new_path, |dir| dir.symlink(&target, &new_path))
        };
        Ok(shared.run(work).await?)
    }

    async fn unlink_file_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        let directory = self.leading(&handle, &[&path])?;
        directory.origin.changeable()?;
        within(directory, path, |directory, path| {
            directory.dir.remove_file_or_symlink(path)
        })
        .await
    }

    fn read_via_stream(
        &mut self,
        handle: Handle,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let reader: DynInputStream = Box::new(Reader::new(self.file(&handle)?, offset)?);
        Ok(self.table().push(reader)?)
    }

    fn write_via_stream(
        &mut self,
        handle: Handle,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let writer = Writer::new(self.writable(&handle)?, Place::At(offset))?;
        let writer: DynOutputStream = Box::new(writer);
        Ok(self.table().push(writer)?)
    }

    fn append_via_stream(&mut self, handle: Handle) -> FsResult<Resource<DynOutputStream>> {
        let writer = Writer::new(self.writable(&handle)?, Place::End)?;
        let writer: DynOutputStream = Box::new(writer);
        Ok(self.table().push(writer)?)
    }

    async fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        let both = [self.descriptor(&one), self.descriptor(&other)];
        let [Ok(one), Ok(other)] = both else {
            return Err(wasmtime::Error::msg("no such descriptor"));
        };
        let same = with(one, move |one| {
            Ok(identity(&one.metadata()?) == identity(&other.metadata()?))
        });
        // What the system cannot tell apart is not known to be the same.
        Ok(same.await.unwrap_or(false))
    }

    async fn metadata_hash(&mut self, handle: Handle) -> FsResult<types::MetadataHashValue> {
        let metadata = with(self.descriptor(&handle)?, Descriptor::metadata).await?;
        Ok(hash(&metadata))
    }

    async fn metadata_hash_at(
        &mut self,
        handle: Handle,
        flags: PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let metadata = within(self.looking(&handle, &path)?, path, metadata_at(flags)).await?;
        self.network.sought().found();
        Ok(hash(&metadata))
    }
}

impl types::HostDirectoryEntryStream for State {
    async fn read_directory_entry(
        &mut self,
        entries: Entries,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let ours = Resource::<Listing>::new_borrow(entries.rep());
        Ok(self.table().get_mut(&ours)?.next().await?)
    }

    fn drop(&mut self, entries: Entries) -> wasmtime::Result<()> {
        let ours = Resource::<Listing>::new_own(entries.rep());
        self.table().delete(ours)?;
        Ok(())
    }
}

fn metadata_at(
    flags: PathFlags,
) -> impl FnOnce(&Directory, &str) -> io::Result<Metadata> + Send + 'static {
    move |directory, path| {
        if flags.contains(PathFlags::SYMLINK_FOLLOW) {
            directory.dir.metadata(path)
        } else {
            directory.dir.symlink_metadata(path)
        }
    }
}
