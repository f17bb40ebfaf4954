//! The open panes of one minute of one partition: what has been recorded since the last delta, and which slices the minute
//! has admitted.

use hashbrown::{HashMap, HashSet};

use super::names::Names;
use crate::engine::pane::{OpenValues, PaneData, Scratch, SeriesPane, VariantPane};
use crate::engine::schema::VariantId;
use crate::engine::tenants::Tenants;
use crate::model::flag::{Dimension, Scope};
use crate::model::metric::MetricId;
use crate::model::time::Minute;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The slice value under which everything beyond the quota is counted. Events cannot carry it: an empty tenant, tier or
/// region is an absent one. A tenant who is really called `other` keeps a slice of its own.
pub const OTHER_SLICE: &str = "";

/// One metric's open pane.
#[derive(Debug)]
enum Open {
    Counts { n: u64, trues: u64 },
    Values(OpenValues),
}

/// One variant's open panes of one minute.
#[derive(Debug)]
struct OpenVariant {
    id: VariantId,
    events: u64,
    tenants: Tenants,
    series: Vec<(MetricId, u32, Open)>,
    /// Per metric: place in `series` of the series over all traffic, or `ABSENT`.
    all: Vec<u32>,
    /// Slices in the order of first arrival; `series` names them by place + 1, all traffic by 0.
    slices: Vec<Slice>,
    slice_of: [Map<Box<str>, u32>; 3],
}

#[derive(Debug)]
struct Slice {
    dimension: Dimension,
    value: Box<str>,
    /// Per metric: place in the variant's `series`, or `ABSENT`.
    table: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

/// The values of an event by which a rule may slice.
pub type SliceValues<'e> = [(Dimension, Option<&'e str>); 3];

/// The slice values that a minute has admitted, by variant and dimension. They outlive deltas, so that the quota does not
/// depend on how often the panes are drained.
pub type Admitted = Map<(VariantId, Dimension), HashSet<Box<str>, foldhash::fast::RandomState>>;

/// The panes of one minute that have not been handed over.
#[derive(Debug, Default)]
pub struct OpenPanes {
    /// Per variant number: place in `variants`, or `ABSENT`.
    places: Vec<u32>,
    variants: Vec<OpenVariant>,
    series: usize,
}

/// One event, ready to be recorded.
pub struct Record<'e> {
    pub variant: VariantId,
    pub tenant: Option<u64>,
    pub slices: SliceValues<'e>,
    pub samples: &'e [(MetricId, f64)],
}

impl OpenPanes {
    /// How many series have something recorded.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.variants.is_empty()
    }

    /// Records an event; says how many slice records went to [`OTHER_SLICE`].
    #[inline]
    pub fn record(
        &mut self,
        names: &Names,
        record: &Record<'_>,
        admitted: &mut Admitted,
        quota: usize,
        spare: &mut Spare,
    ) -> u64 {
        let place = self.place(record.variant, names.metrics(), spare);
        let open = &mut self.variants[place];
        let before = open.series.len();
        open.events += 1;
        if let Some(hash) = record.tenant {
            open.tenants.insert(hash);
        }
        for (guess, &(metric, value)) in record.samples.iter().enumerate() {
            // Events of a producer carry their metrics in one order, which is then that of the series.
            let guessed = open.series.get(guess).is_some_and(|(of, slice, _)| (*of, *slice) == (metric, 0));
            let place = match guessed {
                true => guess,
                false => open.find(names, metric, spare),
            };
            open.series[place].2.record(names, metric, value);
        }
        let wanted = names.schema().slices(record.variant);
        let overflow = match wanted.is_empty() {
            true => 0,
            false => open.record_slices(names, wanted, record, &mut Room { admitted, quota, spare }),
        };
        self.series += open.series.len() - before;
        overflow
    }

    /// Hands over everything recorded, in the order of first arrival; what is emptied goes to `spare`.
    pub fn drain(&mut self, names: &Names, minute: Minute, spare: &mut Spare, into: &mut Vec<VariantPane>) {
        self.series = 0;
        for mut open in self.variants.drain(..) {
            self.places[usize::from(open.id.0)] = ABSENT;
            into.push(open.seal(names, minute, spare));
            spare.keep(open);
        }
    }

    #[inline]
    fn place(&mut self, variant: VariantId, metrics: usize, spare: &mut Spare) -> usize {
        let index = usize::from(variant.0);
        if index >= self.places.len() {
            self.places.resize(index + 1, ABSENT);
        }
        if self.places[index] == ABSENT {
            self.places[index] = self.variants.len() as u32;
            self.variants.push(spare.open(variant, metrics));
        }
        self.places[index] as usize
    }
}

impl OpenVariant {
    /// The place of a metric's series over all traffic, opened if need be.
    fn find(&mut self, names: &Names, metric: MetricId, spare: &mut Spare) -> usize {
        match self.all[usize::from(metric.0)] {
            ABSENT => self.start(names, metric, 0, spare),
            place => place as usize,
        }
    }

    /// Opens a series of all traffic (`slice` 0) or of a slice (its place + 1); says its place.
    #[cold]
    fn start(&mut self, names: &Names, metric: MetricId, slice: u32, spare: &mut Spare) -> usize {
        let place = self.series.len();
        let open = match names.recorded(metric).layout {
            Some(_) => Open::Values(spare.values.pop().unwrap_or_default()),
            None => Open::Counts { n: 0, trues: 0 },
        };
        self.series.push((metric, slice, open));
        let table = match slice {
            0 => &mut self.all,
            slice => &mut self.slices[slice as usize - 1].table,
        };
        table[usize::from(metric.0)] = u32::try_from(place).unwrap_or(ABSENT);
        place
    }

    fn record_slices(
        &mut self,
        names: &Names,
        wanted: &[(Dimension, MetricId)],
        record: &Record<'_>,
        room: &mut Room<'_>,
    ) -> u64 {
        let mut overflow = 0;
        for (dimension, value) in record.slices {
            let Some(value) = value else { continue };
            let wants = |metric| wanted.binary_search(&(dimension, metric)).is_ok();
            if !record.samples.iter().any(|(metric, _)| wants(*metric)) {
                continue;
            }
            let slice = self.slice(names, dimension, value, room);
            for &(metric, number) in record.samples.iter().filter(|(metric, _)| wants(*metric)) {
                let place = match self.slices[slice as usize].table[usize::from(metric.0)] {
                    ABSENT => self.start(names, metric, slice + 1, room.spare),
                    place => place as usize,
                };
                self.series[place].2.record(names, metric, number);
                overflow += u64::from(*self.slices[slice as usize].value == *OTHER_SLICE);
            }
        }
        overflow
    }

    /// The place of a slice; of [`OTHER_SLICE`] if the minute has no room for it.
    fn slice(&mut self, names: &Names, dimension: Dimension, value: &str, room: &mut Room<'_>) -> u32 {
        let known = &self.slice_of[dimension as usize];
        if let Some(place) = known.get(value) {
            return *place;
        }
        let values = room.admitted.entry((self.id, dimension)).or_default();
        let fits = values.contains(value) || (values.len() < room.quota && values.insert(value.into()));
        let value = if fits { value } else { OTHER_SLICE };
        if let Some(place) = known.get(value) {
            return *place;
        }
        let place = self.slices.len() as u32;
        self.slices.push(Slice { dimension, value: value.into(), table: vec![ABSENT; names.metrics()] });
        self.slice_of[dimension as usize].insert(value.into(), place);
        place
    }

    fn seal(&mut self, names: &Names, minute: Minute, spare: &mut Spare) -> VariantPane {
        let slices = &self.slices;
        let scope = |slice: u32| match slice {
            0 => Scope::All,
            place => {
                let slice = &slices[place as usize - 1];
                Scope::Only(slice.dimension, slice.value.to_string())
            }
        };
        let series = self.series.drain(..).map(|(metric, slice, open)| SeriesPane {
            metric,
            slice: scope(slice),
            data: match (open, &names.recorded(metric).layout) {
                (Open::Values(mut values), Some(layout)) => {
                    let sealed = values.take(layout, &mut spare.scratch);
                    spare.values.push(values);
                    PaneData::Values(sealed)
                }
                (Open::Counts { n, trues }, _) => PaneData::Counts { n, trues },
                (Open::Values(_), None) => unreachable!("only metrics with a layout open a pane of values"),
            },
        });
        VariantPane {
            variant: self.id,
            minute,
            events: self.events,
            series: series.collect(),
            tenants: self.tenants.take(),
        }
    }
}

impl Open {
    #[inline]
    fn record(&mut self, names: &Names, metric: MetricId, value: f64) {
        match self {
            Self::Counts { n, trues } => {
                *n += 1;
                *trues += u64::from(value != 0.0);
            }
            Self::Values(values) => {
                if let Some(layout) = &names.recorded(metric).layout {
                    values.record(layout, value);
                }
            }
        }
    }
}

/// Emptied panes, kept for their buffers.
#[derive(Debug, Default)]
pub struct Spare {
    variants: Vec<OpenVariant>,
    values: Vec<OpenValues>,
    scratch: Scratch,
}

/// What opening a slice needs of the minute and the partition.
struct Room<'r> {
    admitted: &'r mut Admitted,
    quota: usize,
    spare: &'r mut Spare,
}

/// More emptied panes of variants than this are freed, and four times as many of series.
const SPARES: usize = 2_048;

impl Spare {
    fn open(&mut self, id: VariantId, metrics: usize) -> OpenVariant {
        let mut open = self.variants.pop().unwrap_or_else(|| OpenVariant {
            id,
            events: 0,
            tenants: Tenants::default(),
            series: Vec::new(),
            all: Vec::new(),
            slices: Vec::new(),
            slice_of: Default::default(),
        });
        open.id = id;
        open.all.clear();
        open.all.resize(metrics, ABSENT);
        open
    }

    fn keep(&mut self, mut open: OpenVariant) {
        self.values.truncate(4 * SPARES);
        if self.variants.len() < SPARES {
            open.events = 0;
            open.series.clear();
            open.slices.clear();
            open.slice_of.iter_mut().for_each(Map::clear);
            self.variants.push(open);
        }
    }
}
