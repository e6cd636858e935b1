//! A call on its way to its function: authenticated ([`Asked`]), then authorised ([`Call`]).

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use hearth_iam::{Decision, Request};
use hearth_identity::{Caller, Identities};
use http::Uri;
use serde::de::DeserializeOwned;

use crate::error::{Code, Error};
use crate::input::Input;
use crate::misread::misread_as;
use crate::pages::Scope;
use crate::record::Record;
use crate::shape::Member;
use crate::validate::{Manner, check, shortened};

/// Longest sentence of a parser that is repeated, in bytes.
const MAXIMUM_SENTENCE: usize = 500;

/// A call whose caller is known and whose rate was not exceeded, but that is not authorised yet.
#[derive(Debug)]
pub struct Asked {
    pub(crate) caller: Arc<Caller>,
    pub(crate) input: Input,
    pub(crate) uri: Uri,
    /// JSON that the input was read from, where the protocol's errors name positions in it.
    pub(crate) text: Option<Bytes>,
    pub(crate) record: Arc<Record>,
    pub(crate) operation: &'static str,
    /// What is still to be checked: authorisation comes first in some protocols.
    pub(crate) unchecked: Option<Unchecked>,
}

/// Members, how violations of it are told, and their code.
pub(crate) type Unchecked = (&'static [Member], Manner, Code);

/// That a caller may do what it asked for: made by a decision only.
#[derive(Debug)]
#[must_use]
pub struct Permit(());

/// An authorised call, whose input has the shape of its operation. Only [`Asked::permitted`] makes
/// one.
#[derive(Debug)]
pub struct Call(Asked);

impl Deref for Call {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.0
    }
}

impl Asked {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The id that the answer names.
    pub fn request_id(&self) -> &str {
        &self.record.id
    }

    /// Members of the request.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// What was asked, of which account, to the letter.
    pub fn question(&self) -> String {
        format!("{} {}", self.caller.account, self.uri)
    }

    /// What a page token of this request is good for: the same list of the same account with the
    /// same filters. `of_page` are the members that change from page to page.
    pub fn scope(&self, of_page: &[&str]) -> Scope {
        let filters = self.input.0.iter().filter(|(name, _)| !of_page.contains(&name.as_str()));
        let mut filters: Vec<_> = filters.map(|(name, value)| format!("{name}={value}")).collect();
        filters.sort_unstable();
        Scope::of(format!("{} {} {}", self.caller.account, self.operation, filters.join("&")))
    }

    /// Asks the policies whether the caller may; `request` comes from [`Caller::request`].
    ///
    /// # Errors
    /// The service's sentence about what is not allowed.
    pub fn ask(&self, identities: &Identities, request: &Request) -> Result<Permit, Error> {
        self.decided(request, identities.decide(&self.caller, request, None))
    }

    /// What follows from a decision on `request` that had to regard more than the caller's
    /// policies.
    ///
    /// # Errors
    /// The service's sentence about what is not allowed.
    pub fn decided(&self, request: &Request, decision: Decision) -> Result<Permit, Error> {
        let denial = decision.denial(request);
        self.record.decided(|| request.resource().to_owned(), denial.is_none());
        match denial {
            None => Ok(Permit(())),
            Some(message) => Err(Error::new(hearth_api::ErrorKind::AccessDenied, message)),
        }
    }

    /// The permit of a root user for what its account has, which no policy can take away.
    pub fn rules(&self, resource: &str) -> Option<Permit> {
        let rules = self.caller.rules(resource);
        rules.then(|| {
            self.record.decided(|| resource.to_owned(), true);
            Permit(())
        })
    }

    /// The permit for what needs none, as the documentation of the operation says.
    pub fn needs_no_permission(&self) -> Permit {
        Permit(())
    }

    /// The call with its permit, and with its input checked if it was not before.
    ///
    /// # Errors
    /// Everything that is wrong with the input.
    pub fn permitted(self, _: Permit) -> Result<Call, Error> {
        if let Some(unchecked) = self.unchecked {
            self.check(unchecked)?;
        }
        Ok(Call(self))
    }

    pub(crate) fn check(&self, (members, manner, code): Unchecked) -> Result<(), Error> {
        check(&self.input.0, members, manner).map_err(|message| Error::new(code, message))
    }

    /// The input as a type.
    ///
    /// # Errors
    /// What the shape does not say and the type requires.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(&self.input.0).map_err(|error| {
            if let Some(text) = &self.text {
                return misread_as::<T>(text, &error);
            }
            let error = error.to_string();
            let error = shortened(&error, MAXIMUM_SENTENCE);
            Error::validation(format!("The body of the request cannot be read: {error}"))
        })
    }
}
