//! How much one statement takes: a message to PostgreSQL cannot be longer than 1 GiB, and a statement
//! may run for a minute. So what is large goes as several statements of one transaction.

/// The most rows of a statement, unless it says otherwise.
const ROWS: usize = 2_048;
/// The most bytes of a statement, one row more aside.
const BYTES: usize = 16 << 20;

/// Cuts rows into pieces, none of them empty, where so many bytes are in each row.
pub(super) fn pieces<'r, T>(
    rows: &'r [T],
    bytes: impl Fn(&T) -> usize + 'r,
) -> impl Iterator<Item = &'r [T]> + 'r {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut taken = 0_usize;
        let fit = rest.iter().take(ROWS).take_while(|row| {
            let before = taken;
            taken = taken.saturating_add(bytes(row));
            before < BYTES
        });
        let (piece, others) = rest.split_at(fit.count());
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(rows: &[usize]) -> Vec<usize> {
        pieces(rows, |row| *row).map(<[usize]>::len).collect()
    }

    #[test]
    fn a_piece_is_bounded_in_rows_and_in_bytes() {
        assert!(lengths(&[]).is_empty());
        assert_eq!(lengths(&[0]), [1]);
        assert_eq!(lengths(&[1; 2 * ROWS + 3]), [ROWS, ROWS, 3]);
        // Half of it, and what fills it; then one that is too large by itself.
        assert_eq!(lengths(&[BYTES / 2, BYTES / 2, 1]), [2, 1]);
        assert_eq!(lengths(&[BYTES - 1, BYTES, 5]), [2, 1]);
        assert_eq!(lengths(&[usize::MAX, usize::MAX, usize::MAX]), [1, 1, 1]);
    }

    #[test]
    fn nothing_is_left_out_and_all_stays_in_order() {
        let rows: Vec<usize> = (0..10_000).map(|row| row * 997 % (1 << 15)).collect();
        let back: Vec<usize> = pieces(&rows, |row| *row).flatten().copied().collect();
        assert_eq!(back, rows);
    }
}
