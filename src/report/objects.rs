//! Objects in the tables of `kubectl get`: columns as wide as their longest cell, three blanks apart.

use crate::record::{ObjectTable, ObjectsShown};

/// All moments, one after the other.
#[must_use]
pub fn text(shown: &[ObjectsShown]) -> String {
    let mut text = String::new();
    for moment in shown {
        let place = moment.cluster.as_ref().map(|cluster| format!(" in {cluster}")).unwrap_or_default();
        let head = format!("{} {}{place}", since(moment.at_ms), moment.why);
        text.push_str(head.trim_end());
        text.push('\n');
        for table in &moment.tables {
            text.push_str(&format!("$ kubectl get {} -o wide\n", table.kind));
            for line in lines(table) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text.push('\n');
    }
    text
}

/// Seconds since the start of the measured time, such as `+12.5s`.
fn since(at_ms: i64) -> String {
    let (sign, tenths) = (if at_ms < 0 { '-' } else { '+' }, at_ms.abs() / 100);
    format!("{sign}{}.{}s", tenths / 10, tenths % 10)
}

/// Source: kubernetes cli-runtime pkg/printers/tabwriter.go: a padding of three, and the last column is not padded.
fn lines(table: &ObjectTable) -> Vec<String> {
    let head: Vec<String> = table.head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<&Vec<String>> = std::iter::once(&head).chain(&table.rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 3;
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<String>().trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_three() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let table = ObjectTable {
            kind: "pods",
            head: vec!["NAME", "READY", "NODE"],
            rows: vec![row(["edge-5d8f-x7k2p", "1/1", "node-1"]), row(["edge-5d8f-b", "0/1", "<none>"])],
        };
        let shown =
            [ObjectsShown { at_ms: 12_560, why: "before `restart`".to_owned(), cluster: None, tables: vec![table] }];
        assert_eq!(
            text(&shown),
            "+12.5s before `restart`\n\
             $ kubectl get pods -o wide\n\
             NAME              READY   NODE\n\
             edge-5d8f-x7k2p   1/1     node-1\n\
             edge-5d8f-b       0/1     <none>\n\n"
        );
    }
}
