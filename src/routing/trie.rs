//! The trie of Topic Filters with wildcards, under `filter_table`.
//!
//! A node is a Topic Level; its children stand by the text of the next level, `+` and `#` apart. A node that
//! leads to nothing is removed.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::local_index::FilterId;

/// From so many children on they stand in a hash map.
const MANY: usize = 16;

#[derive(Debug)]
enum Children {
    Few(SmallVec<[(Box<str>, Box<Node>); 1]>),
    Many(HashMap<Box<str>, Box<Node>, foldhash::fast::RandomState>),
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Children {
    #[inline]
    fn find(&self, level: &str) -> Option<&Node> {
        match self {
            Self::Few(few) => few
                .iter()
                .find(|(text, _)| **text == *level)
                .map(|(_, node)| &**node),
            Self::Many(many) => many.get(level).map(|node| &**node),
        }
    }

    fn find_mut(&mut self, level: &str) -> Option<&mut Node> {
        match self {
            Self::Few(few) => few
                .iter_mut()
                .find(|(text, _)| **text == *level)
                .map(|(_, node)| &mut **node),
            Self::Many(many) => many.get_mut(level).map(|node| &mut **node),
        }
    }

    fn find_or_add(&mut self, level: &str) -> &mut Node {
        if let Self::Few(few) = self
            && few.len() >= MANY
            && !few.iter().any(|(text, _)| **text == *level)
        {
            *self = Self::Many(few.drain(..).collect());
        }
        match self {
            Self::Few(few) => {
                let position = few
                    .iter()
                    .position(|(text, _)| **text == *level)
                    .unwrap_or_else(|| {
                        few.push((level.into(), Box::default()));
                        few.len() - 1
                    });
                &mut few[position].1
            }
            Self::Many(many) => many.entry(level.into()).or_default(),
        }
    }

    fn remove(&mut self, level: &str) {
        match self {
            Self::Few(few) => few.retain(|(text, _)| **text != *level),
            Self::Many(many) => {
                many.remove(level);
                if many.is_empty() {
                    *self = Self::default();
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }
}

#[derive(Debug, Default)]
struct Node {
    /// The filter that ends here.
    here: Option<FilterId>,
    /// The filter that ends here with `/#`.
    multi_level: Option<FilterId>,
    single_level: Option<Box<Node>>,
    children: Children,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.here.is_none()
            && self.multi_level.is_none()
            && self.single_level.is_none()
            && self.children.is_empty()
    }

    fn matching(&self, levels: Option<&str>, found: &mut Vec<FilterId>) {
        // `#` matches the level it stands under, too (4.7.1.2).
        found.extend(self.multi_level);
        let Some(levels) = levels else {
            found.extend(self.here);
            return;
        };
        let (level, rest) = split(levels);
        if let Some(node) = self.children.find(level) {
            node.matching(rest, found);
        }
        if let Some(node) = &self.single_level {
            node.matching(rest, found);
        }
    }

    fn remove(&mut self, levels: Option<&str>) -> Option<FilterId> {
        let Some(levels) = levels else {
            return self.here.take();
        };
        let (level, rest) = split(levels);
        match level {
            "#" => self.multi_level.take(),
            "+" => {
                let node = self.single_level.as_mut()?;
                let removed = node.remove(rest);
                if node.is_empty() {
                    self.single_level = None;
                }
                removed
            }
            _ => {
                let node = self.children.find_mut(level)?;
                let removed = node.remove(rest);
                if node.is_empty() {
                    self.children.remove(level);
                }
                removed
            }
        }
    }
}

fn split(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (levels, None),
    }
}

/// Filters with wildcards.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

impl Trie {
    /// Whether there is no filter.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// The place of a filter's number; the way to it is made.
    pub(super) fn entry(&mut self, filter: &str) -> &mut Option<FilterId> {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => return &mut node.multi_level,
                "+" => node.single_level.get_or_insert_default(),
                _ => node.children.find_or_add(level),
            };
        }
        &mut node.here
    }

    /// The number of a filter.
    pub(super) fn find(&self, filter: &str) -> Option<FilterId> {
        let mut node = &self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => return node.multi_level,
                "+" => node.single_level.as_deref()?,
                _ => node.children.find(level)?,
            };
        }
        node.here
    }

    /// Removes a filter and the nodes that led to nothing else.
    pub(super) fn remove(&mut self, filter: &str) -> Option<FilterId> {
        self.root.remove(Some(filter))
    }

    /// Appends the filters that match `topic`. A wildcard in the first level does not match a topic that
    /// begins with `$` [MQTT-4.7.2-1].
    #[inline]
    pub(super) fn matching(&self, topic: &str, found: &mut Vec<FilterId>) {
        if !topic.starts_with('$') {
            self.root.matching(Some(topic), found);
            return;
        }
        let (level, rest) = split(topic);
        if let Some(node) = self.root.children.find(level) {
            node.matching(rest, found);
        }
    }
}
