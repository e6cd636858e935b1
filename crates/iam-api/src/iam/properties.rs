//! Random sequences of calls against a model that knows names and counts only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_identity::Account;
use hearth_store_sqlite::Store;
use proptest::prelude::*;

use super::Iam;
use super::tests::{account, call, open};

const DOCUMENT: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;

/// A call about users 0 to 2 and policies 0 to 2.
#[derive(Debug, Clone)]
enum Step {
    CreateUser(usize),
    DeleteUser(usize),
    CreateKey(usize),
    DeleteKey(usize),
    CreatePolicy(usize),
    DeletePolicy(usize),
    CreateVersion(usize, bool),
    DeleteVersion(usize, u32),
    Attach(usize, usize),
    Detach(usize, usize),
    PutInline(usize),
    DeleteInline(usize),
    Bound(usize, usize),
    Unbound(usize),
}

#[derive(Debug, Default)]
struct ModelUser {
    keys: Vec<String>,
    attached: BTreeSet<usize>,
    inline: bool,
    boundary: Option<usize>,
}

#[derive(Debug)]
struct ModelPolicy {
    versions: BTreeSet<u32>,
    default: u32,
    last: u32,
}

#[derive(Debug, Default)]
struct Model {
    users: BTreeMap<usize, ModelUser>,
    policies: BTreeMap<usize, ModelPolicy>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_usize..14, 0_usize..3, 0_usize..3, any::<bool>(), 1_u32..8).prop_map(
        |(kind, user, policy, flag, version)| match kind {
            0 => Step::CreateUser(user),
            1 => Step::DeleteUser(user),
            2 => Step::CreateKey(user),
            3 => Step::DeleteKey(user),
            4 => Step::CreatePolicy(policy),
            5 => Step::DeletePolicy(policy),
            6 => Step::CreateVersion(policy, flag),
            7 => Step::DeleteVersion(policy, version),
            8 => Step::Attach(user, policy),
            9 => Step::Detach(user, policy),
            10 => Step::PutInline(user),
            11 => Step::DeleteInline(user),
            12 => Step::Bound(user, policy),
            _ => Step::Unbound(user),
        },
    );
    prop::collection::vec(step, 1..60)
}

fn arn(policy: usize) -> String {
    format!("arn:aws:iam::{}:policy/p{policy}", account())
}

/// The code for something that is there or is not.
fn done(there: bool) -> &'static str {
    if there { "" } else { "NoSuchEntity" }
}

impl Model {
    /// What a step does, and the code that it is to be refused with; empty for success.
    fn apply(&mut self, step: &Step) -> &'static str {
        match *step {
            Step::CreateUser(user) if self.users.contains_key(&user) => "EntityAlreadyExists",
            Step::CreateUser(user) => {
                self.users.insert(user, ModelUser::default());
                ""
            }
            Step::CreatePolicy(policy) if self.policies.contains_key(&policy) => "EntityAlreadyExists",
            Step::CreatePolicy(policy) => {
                self.policies.insert(policy, ModelPolicy { versions: [1].into(), default: 1, last: 1 });
                ""
            }
            Step::DeletePolicy(policy) => self.delete_policy(policy),
            Step::CreateVersion(policy, default) => match self.policies.get_mut(&policy) {
                None => "NoSuchEntity",
                Some(policy) if policy.versions.len() == 5 => "LimitExceeded",
                Some(policy) => {
                    policy.last += 1;
                    policy.versions.insert(policy.last);
                    policy.default = if default { policy.last } else { policy.default };
                    ""
                }
            },
            Step::DeleteVersion(policy, version) => match self.policies.get_mut(&policy) {
                Some(policy) if policy.default == version => "DeleteConflict",
                Some(policy) => done(policy.versions.remove(&version)),
                None => "NoSuchEntity",
            },
            Step::DeleteUser(user)
            | Step::CreateKey(user)
            | Step::DeleteKey(user)
            | Step::Attach(user, _)
            | Step::Detach(user, _)
            | Step::PutInline(user)
            | Step::DeleteInline(user)
            | Step::Bound(user, _)
            | Step::Unbound(user) => self.apply_to_user(user, step),
        }
    }

    fn delete_policy(&mut self, policy: usize) -> &'static str {
        let used =
            self.users.values().any(|user| user.attached.contains(&policy) || user.boundary == Some(policy));
        match self.policies.get(&policy) {
            None => "NoSuchEntity",
            Some(found) if used || found.versions.len() > 1 => "DeleteConflict",
            Some(_) => {
                self.policies.remove(&policy);
                ""
            }
        }
    }

    fn apply_to_user(&mut self, name: usize, step: &Step) -> &'static str {
        let Some(user) = self.users.get_mut(&name) else { return "NoSuchEntity" };
        match *step {
            Step::DeleteUser(_) if !user.keys.is_empty() || !user.attached.is_empty() || user.inline => {
                "DeleteConflict"
            }
            Step::DeleteUser(_) => done(self.users.remove(&name).is_some()),
            Step::CreateKey(_) if user.keys.len() == 2 => "LimitExceeded",
            Step::DeleteKey(_) => done(user.keys.pop().is_some()),
            Step::Attach(_, policy) if !self.policies.contains_key(&policy) => "NoSuchEntity",
            Step::Attach(_, policy) => {
                user.attached.insert(policy);
                ""
            }
            Step::Detach(_, policy) => done(user.attached.remove(&policy)),
            Step::PutInline(_) => {
                user.inline = true;
                ""
            }
            Step::DeleteInline(_) => done(std::mem::take(&mut user.inline)),
            Step::Bound(_, policy) if !self.policies.contains_key(&policy) => "NoSuchEntity",
            Step::Bound(_, policy) => {
                user.boundary = Some(policy);
                ""
            }
            Step::Unbound(_) => done(user.boundary.take().is_some()),
            _ => "",
        }
    }
}

/// Makes the call of a step; the code of its refusal, empty for success.
async fn perform(iam: &Arc<Iam>, model: &mut Model, step: &Step) -> String {
    // Names differ in case from call to call, which must not matter.
    let user = |user: usize| ("UserName", format!("U{user}"));
    let policy = |policy: usize| ("PolicyArn", arn(policy));
    let inline = ("PolicyName", "inline".to_owned());
    let document = ("PolicyDocument", DOCUMENT.to_owned());
    let (action, mut pairs) = match *step {
        Step::CreateUser(n) => ("CreateUser", vec![("UserName", format!("u{n}"))]),
        Step::DeleteUser(n) => ("DeleteUser", vec![user(n)]),
        Step::CreateKey(n) => ("CreateAccessKey", vec![user(n)]),
        Step::DeleteKey(n) => {
            let key = model.users.get(&n).and_then(|user| user.keys.last().cloned());
            let key = key.unwrap_or_else(|| "AKIA0000000000000000".to_owned());
            ("DeleteAccessKey", vec![user(n), ("AccessKeyId", key)])
        }
        Step::CreatePolicy(p) => ("CreatePolicy", vec![("PolicyName", format!("p{p}")), document]),
        Step::DeletePolicy(p) => ("DeletePolicy", vec![policy(p)]),
        Step::CreateVersion(p, default) => {
            ("CreatePolicyVersion", vec![policy(p), document, ("SetAsDefault", default.to_string())])
        }
        Step::DeleteVersion(p, v) => ("DeletePolicyVersion", vec![policy(p), ("VersionId", format!("v{v}"))]),
        Step::Attach(n, p) => ("AttachUserPolicy", vec![user(n), policy(p)]),
        Step::Detach(n, p) => ("DetachUserPolicy", vec![user(n), policy(p)]),
        Step::PutInline(n) => ("PutUserPolicy", vec![user(n), inline, document]),
        Step::DeleteInline(n) => ("DeleteUserPolicy", vec![user(n), inline]),
        Step::Bound(n, p) => ("PutUserPermissionsBoundary", vec![user(n), ("PermissionsBoundary", arn(p))]),
        Step::Unbound(n) => ("DeleteUserPermissionsBoundary", vec![user(n)]),
    };
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let outcome = call(iam, "AKIAROOT", action, &pairs).await;
    if let (Step::CreateKey(n), Ok(xml)) = (step, &outcome) {
        let id = xml.split("<AccessKeyId>").nth(1).unwrap()[..20].to_owned();
        model.users.get_mut(n).unwrap().keys.push(id);
    }
    outcome.err().map(|refusal| refusal.split(':').next().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn check(model: &Model, account: &Account) {
    assert_eq!(account.users().count(), model.users.len());
    assert_eq!(account.policies().count(), model.policies.len());
    for (name, expected) in &model.users {
        let user = account.user(&format!("u{name}")).unwrap();
        let keys: Vec<_> = user.access_keys.iter().map(|key| key.id.clone()).collect();
        assert_eq!(keys, expected.keys);
        assert_eq!(user.policies.managed, expected.attached.iter().map(|policy| arn(*policy)).collect());
        assert_eq!(user.policies.inline.len(), usize::from(expected.inline));
        assert_eq!(user.policies.boundary, expected.boundary.map(arn));
        // No attachment without its policy.
        assert!(
            user.policies
                .managed
                .iter()
                .chain(&user.policies.boundary)
                .all(|arn| account.policy(arn).is_some())
        );
    }
    for (name, expected) in &model.policies {
        let policy = account.policy(&arn(*name)).unwrap();
        let numbers: BTreeSet<_> = policy.versions.iter().map(|version| version.number).collect();
        assert_eq!((&numbers, policy.default_version), (&expected.versions, expected.default));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn calls_do_what_the_model_does_also_after_a_restart(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::temporary().await.unwrap();
            let iam = open(&store).await;
            let mut model = Model::default();
            for step in &steps {
                // The model must not know the step yet when a key is deleted, but
                // must when one is made.
                let code = perform(&iam, &mut model, step).await;
                let key_was_made = matches!(step, Step::CreateKey(_)) && code.is_empty();
                let expected = if key_was_made { "" } else { model.apply(step) };
                assert_eq!(code, expected, "{step:?}");
            }
            check(&model, &iam.identities.account(&account()).unwrap());
            check(&model, &open(&store).await.identities.account(&account()).unwrap());
        });
    }
}
