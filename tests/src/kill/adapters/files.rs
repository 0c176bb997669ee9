//! Creating, opening, replacing and removing a segment that has a name.

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::{ObjectSpec, Segment, SegmentError, SegmentOptions};

use super::still::Still;
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Scene};
use crate::kill::ground::{Ground, scratch_directory};

/// The adapter.
pub(super) struct Files;

/// Bytes of the object in the old segment, and in the new one.
const OLD: usize = 64;
const NEW: usize = 256;

impl Adapter for Files {
    fn kind(&self) -> &'static str {
        "segment"
    }

    fn account(&self) -> &'static str {
        "A name never points at something half made. A creator that dies before its file has the name leaves nothing that \
         anybody opens: the file has no name, or a temporary one, which the next creator of that name removes. Opening is \
         told `NotFound` before and gets a whole segment after; nobody needs to repair anything. Who has a segment open \
         goes on with it whatever happens to its name."
    }

    fn cases(&self) -> Vec<Case> {
        let case = Case::new;
        vec![
            case("create", "no file", &["no file", "the new segment"]),
            case("create", "name taken", &["the old segment"]),
            case("open or create", "no file", &["no file", "the new segment"]),
            case("open or create", "name taken", &["the old segment"]),
            case("replace", "no file", &["no file", "the new segment"]),
            case(
                "replace",
                "name taken",
                &["the old segment", "the new segment"],
            ),
            case("open", "name taken", &["the old segment"]),
            case("unlink", "name taken", &["the old segment", "no file"]),
        ]
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        let ground = Ground::of_directory(scratch_directory()?);
        let mut keep = None;
        if case.state == "name taken" {
            keep = Some(options(OLD).create(ground.path())?);
        }
        Ok(Still::boxed(case, ground, inspect, keep))
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let path = ground.path();
        let mut held = Vec::new();
        Ok(match case.operation {
            "create" => Box::new(move || match options(NEW).create(&path) {
                Ok(segment) => {
                    held.push(segment);
                    Ok(())
                }
                Err(SegmentError::Exists { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }),
            "open or create" => Box::new(move || {
                held.push(options(NEW).open_or_create(&path)?);
                Ok(())
            }),
            "replace" => Box::new(move || {
                held.push(options(NEW).replace(&path)?);
                Ok(())
            }),
            "open" => Box::new(move || {
                held.push(Segment::open(&path)?);
                Ok(())
            }),
            "unlink" => Box::new(move || Ok(Segment::unlink(&path)?)),
            other => bail!("no operation {other}"),
        })
    }

    fn learn(&self, _: &Ground) -> Result<()> {
        Ok(())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        inspect(case, ground)
    }
}

fn options(len: usize) -> SegmentOptions {
    let spec = ObjectSpec {
        kind: *b"killed\0\0",
        version: 1,
        len,
        schema: String::new(),
        parameters: [0; 2],
    };
    SegmentOptions::new().participants(2).object("object", spec)
}

/// The name is free, or what it points at is whole; whoever comes next can do with the name what he likes, and nothing
/// else is left in the directory.
fn inspect(_: &Case, ground: &Ground) -> Result<String> {
    let path = ground.path();
    let found = match Segment::open(&path) {
        Err(SegmentError::NotFound { .. }) => "no file",
        Err(error) => return Err(error).context("what has the name is not whole"),
        Ok(segment) => {
            segment.participant().context("join what has the name")?;
            match segment.object("object")?.entry().len as usize {
                OLD => "the old segment",
                NEW => "the new segment",
                other => bail!("an object of {other} bytes"),
            }
        }
    };
    let newcomer = options(NEW).replace(&path).context("the next creator")?;
    newcomer.participant()?;
    let directory = path.parent().context("a directory")?;
    let names: Vec<_> = directory
        .read_dir()?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    ensure!(names == ["segment"], "left in the directory: {names:?}");
    Segment::unlink(&path).context("remove it")?;
    drop(options(NEW).create(&path).context("create it again")?);
    Segment::unlink(&path)?;
    Ok(found.into())
}
