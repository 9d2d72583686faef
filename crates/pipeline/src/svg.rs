//! Draws graphs as SVG.

use forebay_stream::{Graph, NodeKind};
use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;

/// Draws a graph as SVG. Sources and sinks are ovals, windows have rounded corners, batch operators
/// have double outlines, junctions are filled ovals, and other operators are boxes.
#[must_use]
pub fn svg(graph: &Graph) -> String {
    const HEIGHT: f64 = 36.0;
    const LETTER: f64 = 8.0;
    const MARGIN: f64 = 32.0;
    let mut picture = VisualGraph::new(Orientation::LeftToRight);
    let handles: Vec<_> = graph
        .nodes()
        .iter()
        .map(|node| {
            let name = node.name().to_string();
            #[expect(clippy::cast_precision_loss, reason = "names are short")]
            let size = Point::new(name.chars().count() as f64 * LETTER + MARGIN, HEIGHT);
            let (shape, fill, rounded) = match node.kind() {
                NodeKind::Source | NodeKind::Sink => (ShapeKind::new_circle(&name), "white", 0),
                NodeKind::Element => (ShapeKind::new_box(&name), "white", 0),
                NodeKind::Window => (ShapeKind::new_box(&name), "lightblue", 15),
                NodeKind::Batch => (ShapeKind::new_double_circle(&name), "lightblue", 0),
                NodeKind::Junction => (ShapeKind::new_circle(&name), "lightgray", 0),
            };
            let style =
                StyleAttr::new(Color::fast("black"), 1, Some(Color::fast(fill)), rounded, 13);
            picture.add_node(Element::create(shape, style, Orientation::LeftToRight, size))
        })
        .collect();
    for (from, to) in graph.edges() {
        picture.add_edge(Arrow::simple(""), handles[from], handles[to]);
    }
    let mut writer = SVGWriter::new();
    if !handles.is_empty() {
        picture.do_it(false, false, false, &mut writer);
    }
    writer.finalize()
}
