//! Evaluates CloudFormation's intrinsics, and the dynamic references in texts.

use std::{cell::RefCell, collections::BTreeMap};

use super::{
    Deployment, Located, Resolver,
    yaml::{Node, Value},
};

const KNOWN: [&str; 12] =
    ["And", "Condition", "Equals", "GetAtt", "If", "Join", "Not", "Or", "Ref", "Select", "Split", "Sub"];

/// Refuses intrinsics that [`Scope`] does not evaluate, wherever in the template they are.
pub(super) fn check(node: &Node) -> Located<()> {
    if let Some(intrinsic) = &node.intrinsic
        && !KNOWN.contains(&intrinsic.as_str())
    {
        return node
            .refuse(format!("the intrinsic `{intrinsic}` is unknown here; known are {}", KNOWN.join(", ")));
    }
    match &node.value {
        Value::Scalar { .. } => Ok(()),
        Value::List(items) => items.iter().try_for_each(check),
        Value::Map(entries) => entries.iter().try_for_each(|(_, value)| check(value)),
    }
}

/// What names mean in one deployment of a template.
pub(super) struct Scope<'a> {
    pub(super) root: &'a Node,
    pub(super) deployment: &'a Deployment,
    resolver: &'a dyn Resolver,
    parameters: BTreeMap<String, Node>,
    /// Those that are being evaluated, so that a cycle ends.
    evaluating: RefCell<Vec<String>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        root: &'a Node,
        deployment: &'a Deployment,
        resolver: &'a dyn Resolver,
    ) -> Located<Self> {
        let mut parameters = BTreeMap::new();
        for (name, declaration) in section(root, "Parameters")? {
            parameters.insert(name.clone(), parameter(name, declaration, deployment)?);
        }
        for name in deployment.parameters.keys() {
            if !parameters.contains_key(name) {
                return root.refuse(format!(
                    "there is no parameter `{name}`; there are {}",
                    parameters.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                ));
            }
        }
        Ok(Self { root, deployment, resolver, parameters, evaluating: RefCell::default() })
    }

    /// The resources of a type whose condition holds.
    pub(super) fn resources(&self, resource_type: &str) -> Located<Vec<(&'a str, &'a Node)>> {
        let mut found = Vec::new();
        for (logical_id, resource) in section(self.root, "Resources")? {
            if type_of(resource) == Some(resource_type) && self.exists(resource)? {
                found.push((logical_id.as_str(), resource));
            }
        }
        Ok(found)
    }

    fn exists(&self, resource: &Node) -> Located<bool> {
        match resource.get("Condition") {
            Some(condition) => self.condition(condition.as_text("Condition")?, condition),
            None => Ok(true),
        }
    }

    /// The name that a resource has outside of the template: the property, or one made as CloudFormation would.
    pub(super) fn physical_name(&self, logical_id: &str, resource: &Node, property: &str) -> Located<String> {
        let named = resource.get("Properties").and_then(|properties| properties.get(property));
        match named.map(|name| self.evaluate(name)).transpose()?.flatten() {
            Some(name) => Ok(name.as_text(property)?.to_owned()),
            None => Ok(format!("{}-{logical_id}", self.deployment.stack_name)),
        }
    }

    /// The name of a bucket, which S3 takes only in lower case.
    pub(super) fn bucket_name(&self, logical_id: &str, resource: &Node) -> Located<String> {
        Ok(self.physical_name(logical_id, resource, "BucketName")?.to_lowercase())
    }

    /// The value of an optional property; `AWS::NoValue` is as if it were not there.
    pub(super) fn property(&self, parent: &Node, name: &str) -> Located<Option<Node>> {
        parent.get(name).map(|node| self.evaluate(node)).transpose().map(Option::flatten)
    }

    /// A value without intrinsics; `None` is `AWS::NoValue`.
    pub(super) fn evaluate(&self, node: &Node) -> Located<Option<Node>> {
        let Some(intrinsic) = &node.intrinsic else { return self.evaluate_plain(node).map(Some) };
        let text = |text: String| Some(Node::text(node.line, text));
        match intrinsic.as_str() {
            "Ref" => self.reference(node),
            "GetAtt" => self.attribute(node).map(text),
            "Sub" => self.substitute(node).map(text),
            "If" => {
                let [condition, yes, no] = arguments(node, "[condition, value if it holds, value if not]")?;
                let holds = self.condition(condition.as_text("a condition's name")?, condition)?;
                self.evaluate(if holds { yes } else { no })
            }
            "Join" => {
                let [separator, parts] = arguments(node, "[separator, list]")?;
                let parts = self.texts(parts, "the parts of Join")?;
                Ok(text(parts.join(separator.as_text("Join's separator")?)))
            }
            "Split" => {
                let [separator, whole] = arguments(node, "[separator, text]")?;
                let whole = self.required_text(whole, "Split's text")?;
                let parts = whole.split(separator.as_text("Split's separator")?);
                let items = parts.map(|part| Node::text(node.line, part)).collect();
                Ok(Some(Node { line: node.line, intrinsic: None, value: Value::List(items) }))
            }
            "Select" => {
                let [index, list] = arguments(node, "[index, list]")?;
                let index: usize = index.parsed("Select's index", "a number from 0")?;
                let items = self.texts(list, "Select's list")?;
                match items.into_iter().nth(index) {
                    Some(item) => Ok(text(item)),
                    None => node.refuse(format!("Select: the list has no item {index}")),
                }
            }
            "Equals" | "Not" | "And" | "Or" | "Condition" => Ok(text(self.boolean(node)?.to_string())),
            other => node.refuse(format!("the intrinsic `{other}` is unknown here")),
        }
    }

    /// The texts of a list, in which a comma-delimited parameter counts as its parts.
    pub(super) fn texts(&self, node: &Node, what: &str) -> Located<Vec<String>> {
        let Some(list) = self.evaluate(node)? else { return Ok(Vec::new()) };
        list.items(what)?.iter().map(|item| item.as_text(what).map(str::to_owned)).collect()
    }

    fn required_text(&self, node: &Node, what: &str) -> Located<String> {
        match self.evaluate(node)? {
            Some(value) => value.as_text(what).map(str::to_owned),
            None => node.refuse(format!("{what} must not be AWS::NoValue")),
        }
    }

    fn evaluate_plain(&self, node: &Node) -> Located<Node> {
        let value = match &node.value {
            Value::Scalar { text, quoted } => {
                Value::Scalar { text: self.dynamic_references(node, text)?, quoted: *quoted }
            }
            Value::List(items) => Value::List(
                items.iter().filter_map(|item| self.evaluate(item).transpose()).collect::<Located<_>>()?,
            ),
            Value::Map(entries) => {
                let mut evaluated = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    if let Some(value) = self.evaluate(value)? {
                        evaluated.push((key.clone(), value));
                    }
                }
                Value::Map(evaluated)
            }
        };
        Ok(Node { line: node.line, intrinsic: None, value })
    }

    fn reference(&self, node: &Node) -> Located<Option<Node>> {
        let name = node.as_text("Ref's argument")?;
        if name == "AWS::NoValue" {
            return Ok(None);
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(Some(Node { line: node.line, ..value.clone() }));
        }
        self.name_to_text(node, name).map(|text| Some(Node::text(node.line, text)))
    }

    /// What `Ref` gives of anything but a parameter.
    fn name_to_text(&self, node: &Node, name: &str) -> Located<String> {
        match name {
            "AWS::AccountId" => return Ok(self.deployment.account.clone()),
            "AWS::Partition" => return Ok("aws".to_owned()),
            "AWS::Region" => return Ok(self.deployment.region.clone()),
            "AWS::StackName" => return Ok(self.deployment.stack_name.clone()),
            "AWS::URLSuffix" => return Ok("amazonaws.com".to_owned()),
            _ => {}
        }
        let resource = self.resource(node, name)?;
        match type_of(resource) {
            Some("AWS::DynamoDB::Table") => self.physical_name(name, resource, "TableName"),
            Some("AWS::SQS::Queue") => {
                let queue = self.physical_name(name, resource, "QueueName")?;
                match self.resolver.queue_url(&queue) {
                    Some(url) => Ok(url),
                    None => node.refuse(format!("the queue `{name}` was not made")),
                }
            }
            Some("AWS::S3::Bucket") => self.bucket_name(name, resource),
            Some("AWS::Serverless::Function") => self.physical_name(name, resource, "FunctionName"),
            // No service of this machine has it: the name serves where it is only passed on.
            Some("AWS::Logs::LogGroup" | "AWS::Serverless::HttpApi") => Ok(name.to_owned()),
            other => node.refuse(format!(
                "`{name}` is of type {}, of which nothing is known here that Ref could give",
                other.unwrap_or("none")
            )),
        }
    }

    fn attribute(&self, node: &Node) -> Located<String> {
        let (name, attribute) = match &node.value {
            Value::List(_) => {
                let [name, attribute] = arguments(node, "[resource, attribute]")?;
                (name.as_text("a resource")?, attribute.as_text("an attribute")?)
            }
            _ => match node.as_text("GetAtt's argument")?.split_once('.') {
                Some(parts) => parts,
                None => return node.refuse("GetAtt expects `resource.attribute`"),
            },
        };
        self.attribute_of(node, name, attribute)
    }

    fn attribute_of(&self, node: &Node, name: &str, attribute: &str) -> Located<String> {
        let resource = self.resource(node, name)?;
        let Deployment { region, account, .. } = self.deployment;
        match (type_of(resource).unwrap_or_default(), attribute) {
            ("AWS::SQS::Queue", "Arn") => {
                Ok(self.deployment.queue_arn(&self.physical_name(name, resource, "QueueName")?))
            }
            ("AWS::SQS::Queue", "QueueName") => self.physical_name(name, resource, "QueueName"),
            ("AWS::DynamoDB::Table", "Arn") => {
                let table = self.physical_name(name, resource, "TableName")?;
                Ok(format!("arn:aws:dynamodb:{region}:{account}:table/{table}"))
            }
            ("AWS::S3::Bucket", "Arn") => Ok(format!("arn:aws:s3:::{}", self.bucket_name(name, resource)?)),
            ("AWS::S3::Bucket", "RegionalDomainName") => {
                Ok(format!("{}.s3.{region}.amazonaws.com", self.bucket_name(name, resource)?))
            }
            ("AWS::Serverless::Function", "Arn") => {
                let function = self.physical_name(name, resource, "FunctionName")?;
                Ok(format!("arn:aws:lambda:{region}:{account}:function:{function}"))
            }
            (other, _) => node.refuse(format!("the attribute `{attribute}` of a {other} is not known here")),
        }
    }

    fn resource(&self, node: &Node, name: &str) -> Located<&'a Node> {
        let Some(resource) = self.root.get("Resources").and_then(|resources| resources.get(name)) else {
            return node.refuse(format!("there is no parameter and no resource `{name}`"));
        };
        if !self.exists(resource)? {
            return node.refuse(format!("the resource `{name}` does not exist here: its condition is false"));
        }
        Ok(resource)
    }

    fn substitute(&self, node: &Node) -> Located<String> {
        let (text, local) = match &node.value {
            Value::List(_) => {
                let [text, local] = arguments(node, "[text, {name: value}]")?;
                (text.as_text("Sub's text")?, local.entries("Sub's values")?)
            }
            _ => (node.as_text("Sub's text")?, &[][..]),
        };
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else {
                return node.refuse("Sub: `${` without `}`");
            };
            let name = &rest[start + 2..start + length];
            result.push_str(&rest[..start]);
            if let Some(literal) = name.strip_prefix('!') {
                result.extend(["${", literal, "}"]);
            } else if let Some((_, value)) = local.iter().find(|(key, _)| key == name) {
                result.push_str(&self.required_text(value, name)?);
            } else if let Some(value) = self.parameters.get(name) {
                result.push_str(value.as_text(name)?);
            } else if let Some((resource, attribute)) = name.split_once('.') {
                result.push_str(&self.attribute_of(node, resource, attribute)?);
            } else {
                result.push_str(&self.name_to_text(node, name)?);
            }
            rest = &rest[start + length + 1..];
        }
        result.push_str(rest);
        self.dynamic_references(node, &result)
    }

    /// `{{resolve:ssm:name}}` and `{{resolve:secretsmanager:name}}`, as CloudFormation puts them in at deployment.
    fn dynamic_references(&self, node: &Node, text: &str) -> Located<String> {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{{resolve:") {
            let Some(length) = rest[start..].find("}}") else {
                return node.refuse("a dynamic reference is not closed: `}}` is missing");
            };
            let reference = &rest[start + "{{resolve:".len()..start + length];
            let value = match reference.split_once(':') {
                Some((service @ ("ssm" | "secretsmanager"), name)) if !name.contains(':') => {
                    self.resolver.dynamic_reference(service, name)
                }
                _ => {
                    return node.refuse(format!(
                        "the dynamic reference `{reference}` is not known here; expected ssm:<name> or \
                         secretsmanager:<name>, without version or JSON key"
                    ));
                }
            };
            let Some(value) = value else {
                return node.refuse(format!(
                    "`local` has no value for `{reference}`: it is made in provision.rs, or give it by name there"
                ));
            };
            result.push_str(&rest[..start]);
            result.push_str(&value);
            rest = &rest[start + length + 2..];
        }
        result.push_str(rest);
        Ok(result)
    }

    fn condition(&self, name: &str, at: &Node) -> Located<bool> {
        let Some(condition) = self.root.get("Conditions").and_then(|conditions| conditions.get(name)) else {
            return at.refuse(format!("there is no condition `{name}`"));
        };
        if self.evaluating.borrow().iter().any(|known| known == name) {
            return condition.refuse(format!("the condition `{name}` depends on itself"));
        }
        self.evaluating.borrow_mut().push(name.to_owned());
        let result = self.boolean(condition);
        self.evaluating.borrow_mut().pop();
        result
    }

    fn boolean(&self, node: &Node) -> Located<bool> {
        match node.intrinsic.as_deref() {
            Some("Equals") => {
                let [left, right] = arguments(node, "[value, value]")?;
                Ok(self.required_text(left, "Equals' value")?
                    == self.required_text(right, "Equals' value")?)
            }
            Some("Not") => {
                let [negated] = arguments(node, "[condition]")?;
                Ok(!self.boolean(negated)?)
            }
            Some("And") => node
                .items("And's argument")?
                .iter()
                .try_fold(true, |all, item| Ok(self.boolean(item)? && all)),
            Some("Or") => node
                .items("Or's argument")?
                .iter()
                .try_fold(false, |any, item| Ok(self.boolean(item)? || any)),
            Some("Condition") => self.condition(node.as_text("a condition's name")?, node),
            _ => match node.get("Condition") {
                Some(named) => self.condition(named.as_text("a condition's name")?, named),
                None => node.refuse("a condition is one of Equals, Not, And, Or, Condition"),
            },
        }
    }
}

/// The entries of one of the template's sections, nothing if it is not there.
pub(super) fn section<'a>(root: &'a Node, name: &str) -> Located<&'a [(String, Node)]> {
    root.get(name).map_or(Ok(&[][..]), |node| node.entries(name))
}

/// The `Type` of a resource or event.
pub(super) fn type_of(resource: &Node) -> Option<&str> {
    resource.get("Type").and_then(|node| node.as_text("Type").ok())
}

fn arguments<'n, const N: usize>(node: &'n Node, form: &str) -> Located<&'n [Node; N]> {
    let name = node.intrinsic.as_deref().unwrap_or_default();
    match &node.value {
        Value::List(items) => {
            items.as_slice().try_into().or_else(|_| node.refuse(format!("{name} expects {form}")))
        }
        _ => node.refuse(format!("{name} expects {form}")),
    }
}

fn parameter(name: &str, declaration: &Node, deployment: &Deployment) -> Located<Node> {
    let Some(text) = deployment
        .parameters
        .get(name)
        .map(String::as_str)
        .or_else(|| declaration.get("Default").and_then(|default| default.as_text("Default").ok()))
    else {
        return declaration.refuse(format!(
            "the parameter `{name}` has no default: give its value with --parameter {name}=…"
        ));
    };
    if let Some(allowed) = declaration.get("AllowedValues") {
        let allowed = allowed.items("AllowedValues")?;
        if !allowed.iter().any(|value| value.as_text("an allowed value") == Ok(text)) {
            return declaration.refuse(format!("the parameter `{name}` does not allow `{text}`"));
        }
    }
    match type_of(declaration) {
        Some("String" | "Number") => Ok(Node::text(declaration.line, text)),
        Some("CommaDelimitedList") => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let items = parts.map(|part| Node::text(declaration.line, part)).collect();
            Ok(Node { line: declaration.line, intrinsic: None, value: Value::List(items) })
        }
        other => declaration.refuse(format!(
            "the parameter `{name}` is of type `{}`; known are String, Number, CommaDelimitedList",
            other.unwrap_or("none")
        )),
    }
}
