//! An object store whose process can die at the k-th operation, before or after its effect.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Which side of the operation's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Healthy,
    /// Operation `at` is the last one; all later ones fail.
    DieAt {
        at: u64,
        moment: Moment,
    },
    /// Every n-th operation fails after its effect and works when tried again.
    FailEvery(u64),
}

/// Counts operations and decides their fate; commits take part too.
#[derive(Debug)]
pub(super) struct Fate {
    plan: Plan,
    operations: AtomicU64,
}

impl Fate {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, operations: AtomicU64::new(0) }
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    /// Whether this operation has its effect, and whether its caller hears of success.
    pub(super) fn next(&self) -> (bool, bool) {
        let n = self.operations.fetch_add(1, SeqCst);
        match self.plan {
            Plan::Healthy => (true, true),
            Plan::DieAt { at, .. } if n < at => (true, true),
            Plan::DieAt { at, moment } => (n == at && moment == Moment::After, false),
            Plan::FailEvery(every) => (true, n % every != every - 1),
        }
    }
}

/// `InMemory` under a [`Fate`].
#[derive(Debug)]
pub(super) struct FaultyStore {
    pub(super) inner: Arc<InMemory>,
    pub(super) fate: Arc<Fate>,
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty memory")
    }
}

fn broken() -> Error {
    Error::Generic { store: "faulty", source: "injected".into() }
}

impl FaultyStore {
    async fn under_fate<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let (effect, heard) = self.fate.next();
        let result = if effect { operation.await } else { Err(broken()) };
        if heard { result } else { Err(broken()) }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.under_fate(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.under_fate(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.under_fate(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
