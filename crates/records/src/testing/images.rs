//! What every keeper of images, versions and builds must do.

use hearth_api::{BuildState, ImageState, ImageVersion, ImageVersionState, ImageVersionStatus, Timestamp};

use super::{begun, image_arn};
use crate::{
    AppRecord, BegunUpdate, BuildRecord, Building, Cause, Change, EventQuery, EventStart, Events,
    ImageRecord, ImageVersionRecord, Images, InsertedImage, NodeId, Origin, Quotas, Unchanged, Written,
};

/// Runs the suite.
///
/// # Panics
/// When the keeper does not do what it must.
pub async fn images_conform<K: Images + Events>(keeper: &K) {
    let new = || begun(image_arn("000000000000", "conforms"), NodeId::from_stored("n"), Timestamp::now());
    let suite = Suite { keeper, host: Origin::of(Cause::Host) };
    let begun = suite.what_is_inserted_is_found(new()).await;
    let claimed = suite.who_takes_over_shuts_the_former_owner_out(&begun).await;
    let built = suite.of_many_ends_one_is_written(&claimed).await;
    let two = suite.an_update_begins_once(&built).await;
    suite.a_status_is_of_the_version_that_was_seen(&two).await;
    suite.a_version_goes_but_for_the_last(&two).await;
    suite.an_image_goes_once(new()).await;
    suite.each_change_is_told_once(&begun).await;
}

struct Suite<'a, K> {
    keeper: &'a K,
    host: Origin,
}

fn stale<R>(known: &R) -> Written<R>
where
    R: Clone,
{
    Written::Stale(Some(Box::new(known.clone())))
}

fn now() -> Timestamp {
    Timestamp::from_millis(7_000)
}

impl<K: Images + Events> Suite<'_, K> {
    async fn read(&self, of: &Building) -> Building {
        self.keeper.building(&of.build.id).await.unwrap().unwrap()
    }

    async fn change(&self, was: &Building, to: &Building) -> Written<Building> {
        self.keeper.change_build(was, to, &self.host).await.unwrap()
    }

    async fn what_is_inserted_is_found(&self, new: Building) -> Building {
        for expected in [InsertedImage::Inserted, InsertedImage::NameTaken] {
            let inserted = self.keeper.insert_image(&new, None, None, &Quotas::default()).await;
            assert_eq!(inserted.unwrap(), expected);
        }
        let was = self.read(&new).await;
        assert_eq!((&was.build.id, was.build.generation), (&new.build.id, 0));
        assert!(self.keeper.unfinished_builds().await.unwrap().contains(&was.build));
        let mut begun = was.clone();
        begun.build = was.build.entering(BuildState::InProgress);
        begun.version = was.version.entering(ImageVersionState::InProgress, now());
        assert_eq!(self.change(&was, &begun).await, Written::Yes);
        assert_eq!(self.read(&new).await, begun);
        assert_eq!(self.change(&was, &begun).await, stale(&begun));
        begun
    }

    async fn who_takes_over_shuts_the_former_owner_out(&self, begun: &Building) -> Building {
        let mut former = begun.clone();
        for node in ["b", "a", "a"] {
            let claimed = former.claimed_by(&NodeId::from_stored(node));
            assert_eq!(self.change(&former, &claimed).await, Written::Yes);
            // Even if it knows the generations.
            let mut seen = claimed.clone();
            seen.build.owner = former.build.owner.clone();
            assert_eq!(self.change(&seen, &seen).await, stale(&claimed));
            let mut seen = claimed.clone();
            seen.version.owner = former.version.owner.clone();
            assert_eq!(self.change(&seen, &seen).await, stale(&claimed));
            former = claimed;
        }
        assert_eq!(former.build.owner.epoch, begun.build.owner.epoch + 3);
        assert_eq!(self.read(begun).await, former);
        former
    }

    async fn of_many_ends_one_is_written(&self, was: &Building) -> Building {
        let end = |number: u64| {
            let mut to = was.clone();
            to.build = was.build.entering(BuildState::Successful);
            to.version = was.version.entering(ImageVersionState::Successful, now());
            to.version.app = Some(AppRecord {
                guest_key: "key".to_owned(),
                vcpu_count: 1,
                memory_mib: 512,
                output_position: number,
            });
            to.image = was.image.entering(ImageState::Created, now());
            to.image.latest_active_version = Some(was.version.version);
            to
        };
        let mut other_image = was.clone();
        other_image.image.generation += 1;
        assert_eq!(self.change(&other_image, &end(0)).await, stale(was), "the image is what it was, too");
        let ends = (0..20).map(|number| async move {
            let to = end(number);
            (self.change(was, &to).await == Written::Yes).then_some(to)
        });
        let won: Vec<_> = futures::future::join_all(ends).await.into_iter().flatten().collect();
        assert_eq!(won, [self.read(was).await]);
        assert!(self.keeper.unfinished_builds().await.unwrap().is_empty());
        won.into_iter().next().unwrap()
    }

    /// A second version, which then fails.
    async fn an_update_begins_once(&self, built: &Building) -> Building {
        let mut image = built.image.entering(ImageState::Updating, now());
        image.last_version = ImageVersion(2);
        let (arn, configuration) = (image.arn.clone(), built.version.configuration.clone());
        let node = NodeId::from_stored("a");
        let version = ImageVersionRecord::pending(arn, ImageVersion(2), configuration, node, now());
        let to = Building { image, build: BuildRecord::pending(&version), version };
        let begin = async |was: &ImageRecord| {
            let begun = self.keeper.begin_update(was, &to, None, None, &Quotas::default()).await.unwrap();
            let BegunUpdate::Changed(change) = begun else { panic!("{begun:?}") };
            change
        };
        let old = ImageRecord { generation: built.image.generation - 1, ..built.image.clone() };
        assert_eq!(begin(&old).await, Change::Written(stale(&built.image)));
        assert_eq!(begin(&built.image).await, Change::Written(Written::Yes));
        assert_eq!(self.read(&to).await, to);
        assert_eq!(begin(&built.image).await, Change::Written(stale(&to.image)));
        let busy = Unchanged::Busy(ImageState::Updating);
        assert_eq!(begin(&to.image).await, Change::Refused(busy));
        let deleting = to.image.entering(ImageState::Deleting, now());
        let refused = self.keeper.begin_image_deletion(&to.image, &deleting, &self.host).await;
        assert_eq!(refused.unwrap(), Change::Refused(busy));

        let mut failed = to.clone();
        failed.build = to.build.entering(BuildState::Failed);
        failed.build.state_reason = Some("why".to_owned());
        failed.version = to.version.entering(ImageVersionState::Failed, now());
        failed.image = to.image.entering(ImageState::UpdateFailed, now());
        failed.image.latest_failed_version = Some(ImageVersion(2));
        assert_eq!(self.change(&to, &failed).await, Written::Yes);
        failed
    }

    async fn a_status_is_of_the_version_that_was_seen(&self, two: &Building) {
        let (arn, host) = (&two.image.arn, &self.host);
        let read = async || {
            let image = self.keeper.image(arn).await.unwrap().unwrap();
            (image, self.keeper.image_version(arn, ImageVersion::FIRST).await.unwrap().unwrap())
        };
        let (image, was) = read().await;
        let inactive = ImageVersionStatus::Inactive;
        let to = ImageVersionRecord { status: inactive, ..was.entering(was.state, now()) };
        let set =
            async |image: &ImageRecord| self.keeper.set_version_status(image, &was, &to, host).await.unwrap();
        let old = ImageRecord { generation: image.generation - 1, ..image.clone() };
        assert_eq!(set(&old).await, Change::Written(stale(&was)));
        assert_eq!(set(&image).await, Change::Written(Written::Yes));
        let (after, version) = read().await;
        assert_eq!((&version, after.latest_active_version), (&to, None));
        assert_eq!(after.generation, image.generation + 1);
        assert_eq!(set(&after).await, Change::Written(stale(&to)));
    }

    async fn a_version_goes_but_for_the_last(&self, two: &Building) {
        let (arn, host) = (&two.image.arn, &self.host);
        let begin = async |was: &ImageVersionRecord| {
            let image = self.keeper.image(arn).await.unwrap().unwrap();
            let to = was.entering(ImageVersionState::Deleting, now());
            (self.keeper.begin_version_deletion(&image, was, &to, host).await.unwrap(), to)
        };
        let old = ImageVersionRecord { generation: 0, ..two.version.clone() };
        assert_eq!(begin(&old).await.0, Change::Written(stale(&two.version)));
        let (change, deleting) = begin(&two.version).await;
        assert_eq!(change, Change::Written(Written::Yes));
        assert_eq!(self.keeper.unfinished_deletions().await.unwrap(), std::slice::from_ref(&deleting));
        let finished = self.keeper.finish_version_deletion(&two.version, host).await.unwrap();
        assert_eq!(finished, stale(&deleting));
        for expected in [Written::Yes, Written::Stale(None)] {
            assert_eq!(self.keeper.finish_version_deletion(&deleting, host).await.unwrap(), expected);
        }
        assert_eq!(self.keeper.building(&two.build.id).await.unwrap(), None);
        let image = self.keeper.image(arn).await.unwrap().unwrap();
        assert_eq!((image.state, image.latest_failed_version), (ImageState::Updated, None));
        let first = self.keeper.image_version(arn, ImageVersion::FIRST).await.unwrap().unwrap();
        assert_eq!(begin(&first).await.0, Change::Refused(Unchanged::LastVersion));
    }

    /// Who saw an image that is gone changes nothing of the next of its name.
    async fn an_image_goes_once(&self, next: Building) {
        let was = self.keeper.image(&next.image.arn).await.unwrap().unwrap();
        let to = was.entering(ImageState::Deleting, now());
        for expected in [Written::Yes, stale(&to)] {
            let begun = self.keeper.begin_image_deletion(&was, &to, &self.host).await.unwrap();
            assert_eq!(begun, Change::Written(expected));
        }
        assert_eq!(self.keeper.delete_image(&was, &self.host).await.unwrap(), stale(&to));
        for expected in [Written::Yes, Written::Stale(None)] {
            assert_eq!(self.keeper.delete_image(&to, &self.host).await.unwrap(), expected);
        }
        let mut next = next;
        next.image.generation = to.generation;
        let inserted = self.keeper.insert_image(&next, None, None, &Quotas::default()).await.unwrap();
        assert_eq!(inserted, InsertedImage::Inserted);
        let Written::Stale(Some(_)) = self.keeper.delete_image(&to, &self.host).await.unwrap() else {
            panic!("the next image of that name is gone")
        };
        assert!(self.keeper.building(&next.build.id).await.unwrap().is_some());
    }

    async fn each_change_is_told_once(&self, of: &Building) {
        let arn = &of.image.arn;
        let query = EventQuery {
            account: &arn.account,
            start: EventStart::After(0),
            resource: Some(&arn.to_string()),
            limit: 100,
        };
        let told = self.keeper.events(&query).await.unwrap().into_iter().map(|event| {
            let event = event.event;
            let [from, to] = [&event.from, &event.to].map(|text| text.as_deref().unwrap_or("-"));
            let reason = event.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
            let (kind, what) = (event.resource.parts().0, event.what.as_str());
            format!("{}: {what} {from} {to}{reason}", kind.trim_start_matches("microvm-"))
        });
        assert_eq!(told.collect::<Vec<_>>(), TOLD);
    }
}

/// Everything that the suite does to images of its name.
const TOLD: [&str; 33] = [
    "image: STATE - CREATING",
    "image-version: STATE - PENDING",
    "image-build: STATE - PENDING",
    "image-build: STATE PENDING IN_PROGRESS",
    "image-version: STATE PENDING IN_PROGRESS",
    "image-build: OWNER n b",
    "image-version: OWNER n b",
    "image-build: OWNER b a",
    "image-version: OWNER b a",
    "image-build: OWNER a a",
    "image-version: OWNER a a",
    "image-build: STATE IN_PROGRESS SUCCESSFUL",
    "image-version: STATE IN_PROGRESS SUCCESSFUL",
    "image: STATE CREATING CREATED",
    "image: STATE CREATED UPDATING",
    "image-version: STATE - PENDING",
    "image-build: STATE - PENDING",
    "image-build: STATE PENDING FAILED why",
    "image-version: STATE PENDING FAILED",
    "image: STATE UPDATING UPDATE_FAILED",
    "image-version: STATUS ACTIVE INACTIVE",
    "image-version: STATE FAILED DELETING",
    "image: STATE UPDATE_FAILED UPDATING",
    "image-build: STATE FAILED -",
    "image-version: STATE DELETING -",
    "image: STATE UPDATING UPDATED",
    "image: STATE UPDATED DELETING",
    "image-build: STATE SUCCESSFUL -",
    "image-version: STATE SUCCESSFUL -",
    "image: STATE DELETING -",
    "image: STATE - CREATING",
    "image-version: STATE - PENDING",
    "image-build: STATE - PENDING",
];
