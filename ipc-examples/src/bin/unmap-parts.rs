//! `unmap-parts` unmaps a mapping from the front, from the back and in the middle.
//!
//! A mapping is cut into parts, which are dropped: what is gone has no name any more.

use ipc_core::{MapOptions, mapping::page_size};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let whole = MapOptions::new().private().len(6 * page).map_anonymous()?;
    let start = whole.address();
    println!("whole:           {}", picture(start)?);
    let (front, rest) = whole.split_at(page)?;
    drop(front);
    println!("front unmapped:  {}", picture(start)?);
    let (rest, back) = rest.split_at(4 * page)?;
    drop(back);
    println!("back unmapped:   {}", picture(start)?);
    let (left, rest) = rest.split_at(page)?;
    let (middle, right) = rest.split_at(2 * page)?;
    drop(middle);
    println!("hole unmapped:   {}", picture(start)?);
    left.write_at(0, b"left")?;
    right.unmap()?;
    println!("right unmapped:  {}", picture(start)?);
    Ok(())
}

/// Which of the six pages are mapped, by what the kernel says.
fn picture(start: usize) -> anyhow::Result<String> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let ranges: Vec<(usize, usize)> = maps
        .lines()
        .filter_map(|line| line.split_once(' ')?.0.split_once('-'))
        .filter_map(|(from, to)| {
            Some((
                usize::from_str_radix(from, 16).ok()?,
                usize::from_str_radix(to, 16).ok()?,
            ))
        })
        .collect();
    let mapped = |at: usize| ranges.iter().any(|(from, to)| (*from..*to).contains(&at));
    Ok((0..6)
        .map(|n| {
            if mapped(start + n * page_size()) {
                '#'
            } else {
                '.'
            }
        })
        .collect())
}
