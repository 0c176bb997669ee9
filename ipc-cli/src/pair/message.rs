//! The messages of a pair: a sequence number, a checksum, and words that follow from the number.

/// A message of `N` words. With one word, the number has its lower 48 bits and the checksum the upper 16; with more, the
/// number is word 0, the checksum word 1, and the rest is payload.
pub(super) type Message<const N: usize> = [u64; N];

/// Spreads the bits of a number over a word (a multiplication by an odd constant, near 2^64 over the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

const NUMBER: u64 = (1 << 48) - 1;

/// Writes message `number`.
#[inline]
pub(super) fn write<const N: usize>(message: &mut Message<N>, number: u64) {
    if N == 1 {
        message[0] = short(number);
        return;
    }
    message[0] = number;
    let mut word = number.wrapping_mul(SPREAD);
    let mut sum = word;
    for place in &mut message[2..] {
        word = word.wrapping_add(SPREAD);
        *place = word;
        sum = sum.wrapping_add(word);
    }
    message[1] = sum;
}

/// Whether this is message `number`, whole: its number, its checksum, and every word under the checksum.
#[inline]
pub(super) fn is<const N: usize>(message: &Message<N>, number: u64) -> bool {
    if N == 1 {
        return message[0] == short(number);
    }
    let start = number.wrapping_mul(SPREAD);
    let sum = message[2..]
        .iter()
        .fold(start, |sum, word| sum.wrapping_add(*word));
    message[0] == number && message[1] == sum
}

/// The number that a message says it has.
pub(super) fn number<const N: usize>(message: &Message<N>) -> u64 {
    if N == 1 {
        message[0] & NUMBER
    } else {
        message[0]
    }
}

fn short(number: u64) -> u64 {
    number & NUMBER | number.wrapping_mul(SPREAD) & !NUMBER
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch a checksum that covers nothing: every message must pass as itself, and with any one bit changed as
    // no message at all.
    fn one_bit_is_noticed<const N: usize>() {
        for number in [0, 1, 7, 1 << 20, NUMBER] {
            let mut message = [0; N];
            write(&mut message, number);
            assert!(is(&message, number));
            assert!(!is(&message, number + 1));
            assert_eq!(super::number(&message), number);
            for bit in 0..N * 64 {
                message[bit / 64] ^= 1 << (bit % 64);
                assert!(!is(&message, number), "bit {bit} of {N} words");
                message[bit / 64] ^= 1 << (bit % 64);
            }
        }
    }

    #[test]
    fn a_changed_bit_is_noticed_in_every_size() {
        one_bit_is_noticed::<1>();
        one_bit_is_noticed::<8>();
        one_bit_is_noticed::<32>();
    }

    // Would catch a message that an untouched, zeroed slot passes for.
    #[test]
    fn zeros_are_only_message_zero() {
        assert!(!is(&[0], 1));
        assert!(!is(&[0; 8], 1));
    }
}
