//! Medians and spreads of ratios that were formed within a round.

use serde::Serialize;

/// What a series of rounds came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// A quarter is below.
    pub low: f64,
    /// A quarter is above.
    pub high: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub rounds: usize,
}

/// The spread of some values; `None` if there are none.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = values
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted.first()?, sorted.last()?);
    let at = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (below, above) = (
            sorted[place.floor() as usize],
            sorted[place.ceil() as usize],
        );
        below + (above - below) * place.fract()
    };
    Some(Spread {
        median: at(0.5),
        low: at(0.25),
        high: at(0.75),
        min: *first,
        max: *last,
        rounds: sorted.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // A median off by one place would shift every figure that is published.
    #[test]
    fn the_median_is_the_middle() {
        let odd = spread([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (odd.median, odd.low, odd.high, odd.min, odd.max),
            (2.0, 1.5, 2.5, 1.0, 3.0)
        );
        assert_eq!(spread([1.0, 2.0, 3.0, 4.0]).unwrap().median, 2.5);
        assert!(spread([]).is_none());
        assert_eq!(spread([7.0, f64::NAN]).unwrap().rounds, 1);
    }
}
