//! The order in which Keras numbers and saves the layers of a model with branches.

/// A layer of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node(usize);

/// A model as Keras' functional API builds it: layers, each applied once to the outputs of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Graph<T> {
    /// For each layer what it carries, if anything, and its inputs in their order, all of which come before
    /// it.
    layers: Vec<(Option<T>, Vec<Node>)>,
}

impl<T> Graph<T> {
    pub(super) fn new() -> Self {
        Self { layers: Vec::new() }
    }

    /// Adds a layer that carries nothing, such as an activation.
    pub(super) fn plain(&mut self, inputs: &[Node]) -> Node {
        self.push(None, inputs)
    }

    /// Adds a layer.
    pub(super) fn layer(&mut self, content: T, input: Node) -> Node {
        self.push(Some(content), &[input])
    }

    fn push(&mut self, content: Option<T>, inputs: &[Node]) -> Node {
        self.layers.push((content, inputs.to_vec()));
        Node(self.layers.len() - 1)
    }

    /// What the layers carry, in the order of Keras' `model.layers` of the model that ends in `output`.
    ///
    /// The longest path to the output decides, longest first; among equals, the order in which a depth-first
    /// walk from the output, through each layer's inputs in order, first meets them.
    pub(super) fn into_keras_order(mut self, output: Node) -> Vec<T> {
        let walk = self.walk(output);
        let mut depths = vec![0; self.layers.len()];
        for index in (0..self.layers.len()).rev() {
            for input in &self.layers[index].1 {
                depths[input.0] = depths[input.0].max(depths[index] + 1);
            }
        }
        let mut order = walk;
        order.sort_by_key(|node| std::cmp::Reverse(depths[node.0])); // stable
        let contents = order.iter().map(|node| self.layers[node.0].0.take());
        contents.flatten().collect()
    }

    /// The layers in the order of a depth-first walk from the output.
    fn walk(&self, output: Node) -> Vec<Node> {
        let mut met = vec![false; self.layers.len()];
        let mut order = Vec::new();
        let mut next = vec![output];
        while let Some(node) = next.pop() {
            if !std::mem::replace(&mut met[node.0], true) {
                order.push(node);
                next.extend(self.layers[node.0].1.iter().rev());
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_path_first_then_the_walk() {
        let mut graph = Graph::new();
        let input = graph.plain(&[]);
        let short = graph.layer("short", input);
        let long1 = graph.layer("long 1", input);
        let long2 = graph.layer("long 2", long1);
        let other = graph.layer("other", input);
        // The walk meets `other` before `short`.
        let joined = graph.plain(&[long2, other, short]);
        let last = graph.layer("last", joined);
        assert_eq!(
            graph.into_keras_order(last),
            ["long 1", "long 2", "other", "short", "last"]
        );
    }

    #[test]
    fn what_does_not_lead_to_the_output_is_left_out() {
        let mut graph = Graph::new();
        let input = graph.plain(&[]);
        let used = graph.layer("used", input);
        graph.layer("aside", used);
        assert_eq!(graph.into_keras_order(used), ["used"]);
    }
}
