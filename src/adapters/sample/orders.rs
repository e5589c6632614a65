//! The shop's order book: a fixed table, so that every run of the demo and of the tests sees the same.
//!
//! Not here: anything that a call could change.

use serde::Serialize;

/// One order. Amounts in cents of a euro, as accounting systems keep them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    pub(super) id: &'static str,
    pub(super) customer: &'static str,
    pub(super) item: &'static str,
    pub(super) status: &'static str,
    pub(super) total_cents: u32,
    pub(super) placed: &'static str,
}

const fn order(
    id: &'static str,
    customer: &'static str,
    item: &'static str,
    status_total: (&'static str, u32),
    placed: &'static str,
) -> Order {
    Order { id, customer, item, status: status_total.0, total_cents: status_total.1, placed }
}

pub(super) static ORDERS: [Order; 12] = [
    order("FO-1001", "Amara Okafor", "Larch 40 l rucksack", ("delivered", 12_900), "2026-07-02"),
    order("FO-1002", "Jonas Lindqvist", "Tarn two-person tent", ("shipped", 34_900), "2026-07-03"),
    order("FO-1003", "Mei-Ling Chen", "Heather wool socks, 3 pairs", ("delivered", 3_600), "2026-07-03"),
    order("FO-1004", "Diego Fuentes", "Scree walking boots, 43", ("returned", 18_900), "2026-07-05"),
    order("FO-1005", "Amara Okafor", "Burn gas stove", ("shipped", 5_900), "2026-07-08"),
    order("FO-1006", "Ruth Adler", "Moor rain jacket, M", ("packing", 21_500), "2026-07-11"),
    order("FO-1007", "Tomasz Nowak", "Fell trail map set", ("delivered", 4_250), "2026-07-12"),
    order("FO-1008", "Priya Raman", "Tarn two-person tent", ("cancelled", 34_900), "2026-07-14"),
    order("FO-1009", "Jonas Lindqvist", "Larch 40 l rucksack", ("packing", 12_900), "2026-07-15"),
    order("FO-1010", "Salma Haddad", "Corrie sleeping bag", ("shipped", 27_900), "2026-07-16"),
    order("FO-1011", "Ruth Adler", "Burn gas stove", ("placed", 5_900), "2026-07-18"),
    order("FO-1012", "Owen Pritchard", "Crag climbing rope, 60 m", ("placed", 16_400), "2026-07-19"),
];

pub(super) fn find(id: &str) -> Option<&'static Order> {
    ORDERS.iter().find(|order| order.id.eq_ignore_ascii_case(id))
}

/// Orders whose customer, item or status contains `words`, ignoring case, oldest first.
pub(super) fn search(words: &str, limit: usize) -> Vec<&'static Order> {
    let words = words.to_lowercase();
    ORDERS
        .iter()
        .filter(|order| {
            [order.customer, order.item, order.status]
                .iter()
                .any(|field| field.to_lowercase().contains(&words))
        })
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, limit: usize, expected: &[&str]) {
        let found: Vec<_> = search(words, limit).iter().map(|order| order.id).collect();
        assert_eq!(found, expected, "{words:?}");
    }

    #[test]
    fn search_ignores_case_and_obeys_its_limit() {
        check("RUTH", 10, &["FO-1006", "FO-1011"]);
        check("tent", 1, &["FO-1002"]);
        check("cancelled", 10, &["FO-1008"]);
        check("anvil", 10, &[]);
        check("", 0, &[]);
    }

    #[test]
    fn ids_are_found_in_either_case() {
        assert_eq!(find("fo-1003").map(|order| order.customer), Some("Mei-Ling Chen"));
        assert!(find("FO-9999").is_none());
    }
}
