//! What lists call the members of their pages, and how long those are.

use hearth_service::pages::{BadToken, Page, Tokens};
use hearth_service::{Asked, Error};

use crate::config::Context;

const MAXIMUM_RESULTS: u32 = 50;

/// What a list calls the members of its query, and how long its pages are.
#[derive(Debug)]
pub(crate) struct PageMembers {
    pub(crate) limit: &'static str,
    pub(crate) token: &'static str,
    pub(crate) default: u32,
    pub(crate) longest: u32,
}

/// Of all lists of `lambda-microvms`.
const MEMBERS: PageMembers = PageMembers {
    limit: "maxResults",
    token: "nextToken",
    default: MAXIMUM_RESULTS,
    longest: MAXIMUM_RESULTS,
};

impl Context {
    /// The page that `maxResults` (50 by default and at most) and `nextToken` ask for.
    pub(crate) fn page(&self, asked: &Asked) -> Result<Page, Error> {
        self.page_of(asked, &MEMBERS).map_err(|bad| {
            Error::validation(match bad {
                BadToken::Invalid => "The provided nextToken is invalid.",
                BadToken::Expired => "The provided nextToken has expired; begin again without one.",
            })
        })
    }

    /// Reads members of other names, whose shapes were checked.
    pub(crate) fn page_of(&self, asked: &Asked, members: &PageMembers) -> Result<Page, BadToken> {
        let tokens = Tokens::new(self.page_key, asked.scope(&[members.limit, members.token]));
        let limit = asked.input().number(members.limit).unwrap_or(members.default);
        Page::new(tokens, limit.clamp(1, members.longest), asked.input().get(members.token))
    }
}

/// Rule of lists that are authorised on what they belong to: a wrong token is told first.
pub(crate) fn has_page(context: &Context, asked: &Asked) -> Result<(), Error> {
    context.page(asked).map(drop)
}
