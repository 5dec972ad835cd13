//! Reads template.yaml, the one description of the wiring, as far as it says what runs on this machine.
//!
//! A template that `local` does not understand in full is refused, with the line: what is ignored silently here would
//! first be noticed in the cloud. What is ignored on purpose is listed by name in [`resources`] and [`functions`].

mod functions;
mod intrinsics;
pub mod model;
mod resources;
mod yaml;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use self::{intrinsics::Scope, model::App, yaml::Node};

/// Why a template cannot be run here.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}:{line}: {message}", file.display())]
pub struct TemplateError {
    /// The template.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// What a template takes from outside of itself, and that is known only once the services run.
pub trait Resolver {
    /// The URL of a queue, by its name.
    fn queue_url(&self, queue: &str) -> Option<String>;
    /// The value of a dynamic reference: `service` is `ssm` or `secretsmanager`, `name` the parameter's or secret's.
    fn dynamic_reference(&self, service: &str, name: &str) -> Option<String>;
}

/// Resolves everything to its own name: enough to learn what a template declares, before anything of it is made.
#[derive(Clone, Copy, Debug)]
pub struct Unprovisioned;

impl Resolver for Unprovisioned {
    fn queue_url(&self, queue: &str) -> Option<String> {
        Some(queue.to_owned())
    }

    fn dynamic_reference(&self, _service: &str, name: &str) -> Option<String> {
        Some(name.to_owned())
    }
}

/// Where the template is "deployed" to: the values of its pseudo parameters, and of those parameters that have no
/// default or another value here.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// `AWS::StackName`, which also begins the names of what the template leaves unnamed.
    pub stack_name: String,
    /// `AWS::Region`.
    pub region: String,
    /// `AWS::AccountId`.
    pub account: String,
    /// Values of the template's `Parameters`.
    pub parameters: BTreeMap<String, String>,
}

impl Deployment {
    /// The ARN of the queue of that name.
    #[must_use]
    pub fn queue_arn(&self, queue: &str) -> String {
        format!("arn:aws:sqs:{}:{}:{queue}", self.region, self.account)
    }
}

/// A template that was read and whose resource types and intrinsics are all known.
#[derive(Clone, Debug)]
pub struct Template {
    file: PathBuf,
    root: Node,
}

impl Template {
    /// Reads a template from its file.
    pub fn read(file: &Path) -> Result<Self, TemplateError> {
        let text = std::fs::read_to_string(file).map_err(|error| TemplateError {
            file: file.to_owned(),
            line: 1,
            message: format!("cannot be read: {error}"),
        })?;
        Self::parse(file, &text)
    }

    /// Reads a template's text; `file` is what errors name.
    pub fn parse(file: &Path, text: &str) -> Result<Self, TemplateError> {
        let at_line = |(line, message)| TemplateError { file: file.to_owned(), line, message };
        let root = yaml::parse(text).map_err(at_line)?;
        intrinsics::check(&root).map_err(at_line)?;
        resources::check_types(&root).map_err(at_line)?;
        Ok(Self { file: file.to_owned(), root })
    }

    /// The names of the template's parameters.
    #[must_use]
    pub fn parameters(&self) -> Vec<&str> {
        match self.root.get("Parameters").map(|parameters| &parameters.value) {
            Some(yaml::Value::Map(entries)) => entries.iter().map(|(name, _)| name.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// What the template declares, for one deployment.
    pub fn app(&self, deployment: &Deployment, resolver: &dyn Resolver) -> Result<App, TemplateError> {
        self.resolved(deployment, resolver).map_err(|(line, message)| TemplateError {
            file: self.file.clone(),
            line,
            message,
        })
    }

    fn resolved(&self, deployment: &Deployment, resolver: &dyn Resolver) -> Located<App> {
        let scope = Scope::new(&self.root, deployment, resolver)?;
        Ok(App {
            functions: functions::read(&scope)?,
            tables: resources::tables(&scope)?,
            queues: resources::queues(&scope)?,
            buckets: resources::buckets(&scope)?,
            cors: resources::cors(&scope)?,
        })
    }
}

/// A result whose error is a line and a message; the file is added where it is known.
type Located<T> = Result<T, (usize, String)>;

#[cfg(test)]
mod tests;
