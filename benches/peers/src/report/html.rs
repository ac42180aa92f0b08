//! The report as one HTML page without references to other files: the plots are inline SVG, and
//! there are no scripts.

use std::fmt::Write as _;

use super::{Report, Table, all_tables, plots, preamble};

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:14px}
caption{text-align:left;font-weight:600;padding:.25rem 0}
th,td{border:1px solid #ccc;padding:.2rem .6rem;text-align:right}
th:first-child,td:first-child{text-align:left}
thead{background:#f2f2f2}
figure{margin:1rem 0;overflow-x:auto}
.scroll{overflow-x:auto}
";

/// Renders the page.
pub fn render(report: &Report) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width\">\n<title>fanout and its \
         peers</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>fanout and its \
         peers</h1>\n<ul>\n"
    );
    for line in preamble(report) {
        let _ = writeln!(page, "<li>{}</li>", escaped(&line));
    }
    page.push_str("</ul>\n<nav><ul>\n");
    for section in &report.sections {
        let (name, title) = (escaped(&section.name), escaped(&section.title));
        let _ = writeln!(page, "<li><a href=\"#{name}\">{title}</a></li>");
    }
    page.push_str("</ul></nav>\n");
    for section in &report.sections {
        let (name, title) = (escaped(&section.name), escaped(&section.title));
        let _ = writeln!(page, "<section id=\"{name}\">\n<h2>{title}</h2>");
        for paragraph in &section.about {
            let _ = writeln!(page, "<p>{}</p>", escaped(paragraph));
        }
        if !section.systems.is_empty() {
            page.push_str("<details><summary>The systems</summary>\n<dl>\n");
            for (name, about) in &section.systems {
                let (name, about) = (escaped(name), escaped(about));
                let _ = writeln!(page, "<dt>{name}</dt><dd>{about}</dd>");
            }
            page.push_str("</dl>\n</details>\n");
        }
        for table in all_tables(section) {
            page.push_str(&rows(&table));
        }
        for plot in &section.plots {
            let _ = writeln!(page, "<figure>\n{}</figure>", plots::svg(plot));
        }
        page.push_str("</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn rows(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| -> String {
        let cells: String = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<div class=\"scroll\"><table>\n<caption>{}</caption>\n<thead>{}</thead>\n\
         <tbody>\n{body}</tbody>\n</table></div>\n",
        escaped(&table.title),
        row(&table.header, "th"),
    )
}

/// Escapes the characters that have a meaning in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_refers_to_no_other_file() {
        let page = render(&super::super::example());
        assert!(page.contains("<svg"), "{page}");
        for text in ["<script", "src=", "<link", "url(", "@import"] {
            assert!(!page.contains(text), "{text}: {page}");
        }
        // The name space of SVG is the only address.
        assert_eq!(
            page.matches("http").count(),
            page.matches("http://www.w3.org/2000/svg").count()
        );
    }

    #[test]
    fn texts_are_escaped() {
        let page = render(&super::super::example());
        assert!(page.contains("&lt;angle brackets&gt; &amp; more"), "{page}");
        assert!(page.contains("Curves &amp; more"), "{page}");
        assert!(
            page.contains("<tr><td>threads|1</td><td>2.5</td></tr>"),
            "{page}"
        );
    }
}
