//! XML as feeds write it: one element of interest after the other, each as a small tree, so that a list of ten thousand costs
//! the memory of one.

use std::{borrow::Cow, rc::Rc};

use quick_xml::{
    NsReader,
    events::{BytesStart, Event},
    name::ResolveResult,
};

use crate::{MOST_DEPTH, NotThisFormat};

/// The most attributes and elements that are read of one element of interest.
const MOST_PARTS: usize = 50_000;
/// The most attributes of any one: each is compared with all before it.
const MOST_ATTRIBUTES: usize = 1_000;
/// What is wrong with an element that [is cut](Element::is_cut).
pub(crate) const TOO_LARGE: &str = "is too large to be read whole";

/// An element: its name, its attributes, the text directly in it, and the elements in it.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) namespace: Rc<str>,
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
    /// Whether there is more in it, or in what is in it, than is read.
    pub(crate) is_cut: bool,
    /// How much of the text of the element around it comes before it, in bytes.
    pub(crate) at: usize,
}

impl Element {
    /// An attribute, by its name as it is written.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The elements in it of this name and of its own namespace.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.all_in(&self.namespace, name)
    }

    /// The elements in it of this name and namespace.
    pub(crate) fn all_in<'a>(&'a self, namespace: &'a str, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name && *child.namespace == *namespace)
    }

    /// The first element in it of this name and of its own namespace.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.child_in(&self.namespace, name)
    }

    /// The first element in it of this name and namespace.
    pub(crate) fn child_in(&self, namespace: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name && *child.namespace == *namespace)
    }

    /// The text of the first element of this name and of its own namespace, where there is any.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).and_then(Self::words)
    }

    /// The text of the first element of this name and namespace, where there is any.
    pub(crate) fn text_in(&self, namespace: &str, name: &str) -> Option<&str> {
        self.child_in(namespace, name).and_then(Self::words)
    }

    /// Takes out the elements in it whose namespace begins so: they are in an element of the first one's namespace, then.
    pub(crate) fn take_in(&mut self, namespace: &str) -> Option<Self> {
        let taken = self.children.extract_if(.., |child| child.namespace.starts_with(namespace));
        let children: Vec<Self> = taken.collect();
        let namespace = Rc::clone(&children.first()?.namespace);
        Some(Self { namespace, children, ..Self::default() })
    }

    /// The text directly in it, where there is any, without what is around it.
    pub(crate) fn words(&self) -> Option<&str> {
        Some(self.text.trim()).filter(|text| !text.is_empty())
    }
}

/// Hands over each element of one of these names, outermost first, with what is in it, and answers the name of the root, with
/// its namespace, and nothing in it but its attributes. What an element that was handed over has in it is not handed over
/// again. What is too large is cut, and those after it are whole.
///
/// A document that ends too early, or goes wrong, is an error; what was handed over before is right.
pub(crate) fn each(
    document: &[u8],
    names: &[&str],
    mut take: impl FnMut(Element),
) -> Result<Element, NotThisFormat> {
    let text = decoded(document)?;
    // Some write a line, or a mark of their encoding, before the declaration, where nothing may be.
    let text =
        &text[text.find('<').ok_or_else(|| NotThisFormat("there is no element in it".to_owned()))?..];
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut root: Option<Element> = None;
    let mut open: Vec<Element> = Vec::new();
    // How deep we are where nothing is taken: around what is taken, and within what is cut.
    let (mut depth, mut cut, mut parts) = (0_usize, 0_usize, 0_usize);
    loop {
        let (namespace, event) = reader.read_resolved_event().map_err(|error| wrong(&error))?;
        match event {
            Event::Start(start) => {
                if depth + open.len() + cut >= MOST_DEPTH {
                    return Err(NotThisFormat(format!(
                        "its elements lie deeper than {MOST_DEPTH} within each other"
                    )));
                }
                if let Some(parent) = open.last_mut().filter(|_| cut > 0 || parts >= MOST_PARTS) {
                    parent.is_cut = true;
                    cut += 1;
                    continue;
                }
                let is_wanted = !open.is_empty() || names.contains(&start.local_name().as_ref());
                if root.is_none() || is_wanted {
                    let element = element(&namespace, &start, open.last())?;
                    if root.is_none() {
                        root = Some(Element {
                            namespace: Rc::clone(&element.namespace),
                            name: element.name.clone(),
                            attributes: element.attributes.clone(),
                            ..Element::default()
                        });
                    }
                    if is_wanted {
                        parts += 1 + element.attributes.len();
                        open.push(element);
                        continue;
                    }
                }
                depth += 1;
            }
            Event::End(_) if cut > 0 => cut -= 1,
            Event::End(_) => match (open.pop(), open.last_mut()) {
                (Some(element), Some(parent)) => {
                    parent.is_cut |= element.is_cut;
                    parent.children.push(element);
                }
                (Some(element), None) => {
                    parts = 0;
                    take(element);
                }
                (None, _) => depth = depth.saturating_sub(1),
            },
            Event::Text(_) | Event::CData(_) if cut > 0 => {}
            Event::Text(text) => add(&mut open, &text.xml10_content()),
            Event::CData(text) => add(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| wrong(&error))?;
                let name = reference.xml10_content();
                let text = match (character, &*name) {
                    (Some(character), _) => Cow::from(character.to_string()),
                    (None, name) => Cow::from(predefined(name)?),
                };
                if cut == 0 {
                    add(&mut open, &text);
                }
            }
            Event::DocType(_) => {
                return Err(NotThisFormat("it has a document type, which is not read".to_owned()));
            }
            Event::Eof if depth > 0 || !open.is_empty() => {
                return Err(NotThisFormat("it ends in the middle of an element".to_owned()));
            }
            Event::Eof => return root.ok_or_else(|| NotThisFormat("there is no element in it".to_owned())),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

/// The document as text: in the encoding that its mark says, or its declaration, or in UTF-8.
pub(crate) fn decoded(document: &[u8]) -> Result<Cow<'_, str>, NotThisFormat> {
    let encoding = match encoding_rs::Encoding::for_bom(document) {
        Some((encoding, _)) => encoding,
        None => declared(document)?.unwrap_or(encoding_rs::UTF_8),
    };
    let (text, encoding, is_damaged) = encoding.decode(document);
    if is_damaged {
        return Err(NotThisFormat(format!("it is not in {}", encoding.name())));
    }
    Ok(text)
}

/// The encoding that the declaration names. All that are in use write it as ASCII does, save UTF-16: a declaration that could be
/// read is of none in that, whatever it says (WHATWG, HTML, 13.2.3.2), but was in a text before it was in bytes.
fn declared(document: &[u8]) -> Result<Option<&'static encoding_rs::Encoding>, NotThisFormat> {
    let head = String::from_utf8_lossy(&document[..document.len().min(1_000)]).into_owned();
    let Some(declaration) = head.split_once("<?xml").and_then(|(_, rest)| rest.split_once("?>")) else {
        return Ok(None);
    };
    let Some((_, rest)) = declaration.0.split_once("encoding") else { return Ok(None) };
    let label = rest.split(['"', '\'']).nth(1).unwrap_or_default();
    let encoding = encoding_rs::Encoding::for_label(label.trim().as_bytes());
    let encoding = encoding.map(|encoding| {
        let is_utf_16 = [encoding_rs::UTF_16LE, encoding_rs::UTF_16BE].contains(&encoding);
        if is_utf_16 { encoding_rs::UTF_8 } else { encoding }
    });
    encoding.map(Some).ok_or_else(|| NotThisFormat(format!("its encoding, {label:?}, is not known")))
}

fn element(
    namespace: &ResolveResult<'_>,
    start: &BytesStart<'_>,
    parent: Option<&Element>,
) -> Result<Element, NotThisFormat> {
    let namespace = match namespace {
        ResolveResult::Bound(namespace) => namespace.as_ref(),
        ResolveResult::Unbound => "",
        ResolveResult::Unknown(prefix) => {
            return Err(NotThisFormat(format!("the prefix {prefix:?} is not declared")));
        }
    };
    let namespace = match parent {
        Some(parent) if *parent.namespace == *namespace => Rc::clone(&parent.namespace),
        _ => Rc::from(namespace),
    };
    let mut attributes = Vec::new();
    let mut all = start.attributes();
    for attribute in all.by_ref().take(MOST_ATTRIBUTES) {
        let attribute = attribute.map_err(|error| wrong(&error))?;
        let value =
            attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).map_err(|error| wrong(&error))?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    let at = parent.map_or(0, |parent| parent.text.len());
    Ok(Element {
        namespace,
        name: start.local_name().as_ref().to_owned(),
        attributes,
        is_cut: all.next().is_some(),
        at,
        ..Element::default()
    })
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// XML's own five entities. Others would be of a document type, which is not read: so none can be a bomb.
fn predefined(name: &str) -> Result<&'static str, NotThisFormat> {
    quick_xml::escape::resolve_xml_entity(name)
        .ok_or_else(|| NotThisFormat(format!("the entity {name:?} is not known")))
}

fn wrong(error: &dyn std::fmt::Display) -> NotThisFormat {
    NotThisFormat(format!("it is no XML: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &[u8], names: &[&str]) -> Result<(Element, Vec<Element>), NotThisFormat> {
        let mut all = Vec::new();
        let root = each(document, names, |element| all.push(element))?;
        Ok((root, all))
    }

    #[test]
    fn elements_of_interest_come_with_what_is_in_them() {
        let document = br#"
            <?xml version="1.0"?><a:list xmlns:a="urn:a" xmlns="urn:b" v="&lt;1">
              <item><t> one &amp; <![CDATA[<two>]]> &#x41;</t><a:t>other</a:t><item/></item>
              <a:item/>
            </a:list>"#;
        let (root, items) = read(document, &["item"]).unwrap();
        assert_eq!(
            (&*root.namespace, root.name.as_str(), root.attribute("v")),
            ("urn:a", "list", Some("<1"))
        );
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].text_of("t"), Some("one & <two> A"));
        assert_eq!(items[0].text_in("urn:a", "t"), Some("other"));
        assert_eq!(items[0].all("item").count(), 1);
        assert_eq!(&*items[1].namespace, "urn:a");
    }

    #[test]
    fn encodings_are_those_of_the_mark_or_of_the_declaration() {
        let utf_16: Vec<u8> = "\u{feff}<a>å</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe5</a>".to_vec();
        let utf_8 = "\u{feff}\n<a>å</a>".as_bytes().to_vec();
        // So does .NET's StringWriter, whose texts are then written in UTF-8.
        let labels = ["utf-16", "UTF-16LE", "utf-16be", "unicode"];
        let mislabelled =
            labels.map(|label| format!("<?xml version='1.0' encoding='{label}'?><a>å</a>").into_bytes());
        for document in [utf_16, latin, utf_8].into_iter().chain(mislabelled) {
            assert_eq!(read(&document, &["a"]).unwrap().1[0].text, "å");
        }
        assert!(read(b"<?xml version='1.0' encoding='klingon'?><a/>", &["a"]).is_err());
        assert!(read(b"<a>\xe5</a>", &["a"]).is_err(), "it is not UTF-8");
    }

    #[test]
    fn what_is_too_large_is_cut_and_the_others_are_whole() {
        let many = "<b><c>x</c>y</b>".repeat(100_000);
        let attributes = (0..1_001).map(|number| format!(" a{number}=''")).collect::<Vec<_>>().concat();
        let document = format!(
            "<list><a><b>x</b></a><a>{many}<![CDATA[z]]>&amp;</a><a><b{attributes}/>x</a><a{attributes}/><a>x</a></list>"
        );
        let (_, all) = read(document.as_bytes(), &["a"]).unwrap();
        let told: Vec<_> = all.iter().map(|a| (a.is_cut, a.children.len(), a.text.as_str())).collect();
        assert_eq!(
            told,
            [(false, 1, ""), (true, 25_000, "z&"), (true, 1, "x"), (true, 0, ""), (false, 0, "x")]
        );
        let [.., whole, last] = &all[1].children[..] else { panic!() };
        assert_eq!((whole.is_cut, whole.children.len(), whole.text.as_str()), (false, 1, "y"));
        assert_eq!((last.is_cut, last.children.len(), last.text.as_str()), (true, 0, "y"));
    }

    #[test]
    fn bombs_and_halves_are_refused() {
        let deep = ["<a>".repeat(1_000_000), "</a>".repeat(1_000_000)].concat();
        let documents = [
            "<!DOCTYPE a [<!ENTITY b 'bomb'>]><a>&b;</a>",
            "<a>&nbsp;</a>",
            "<a><b></a>",
            "<a><b>",
            "<a x='1' x='2'/>",
            "<p:a/>",
            "",
            "no markup",
            &deep,
        ];
        for document in documents {
            assert!(read(document.as_bytes(), &["a"]).is_err(), "{}", &document[..document.len().min(60)]);
        }
    }
}
