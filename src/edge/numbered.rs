//! Things by number, where numbers are given in order: each stands at the place of its number, so that a look-up costs the same however many there are.

use std::collections::VecDeque;

/// What there is by number. Places before the first and behind the last are given back.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Option<T>>,
    count: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { first: 0, places: VecDeque::new(), count: 0 }
    }
}

impl<T> Numbered<T> {
    fn place_of(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        self.places.get(self.place_of(number)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place_of(number)?;
        self.places.get_mut(place)?.as_mut()
    }

    /// Adds a thing; what was there before.
    pub(super) fn insert(&mut self, number: u64, thing: T) -> Option<T> {
        if self.places.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.first -= 1;
            self.places.push_front(None);
        }
        let place = self.place_of(number).expect("a number fits an index");
        while self.places.len() <= place {
            self.places.push_back(None);
        }
        let former = self.places[place].replace(thing);
        self.count += usize::from(former.is_none());
        former
    }

    /// Takes a thing out.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.place_of(number)?;
        let gone = self.places.get_mut(place)?.take()?;
        self.count -= 1;
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        while let Some(None) = self.places.back() {
            self.places.pop_back();
        }
        Some(gone)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// All of them in the order of their numbers, from `number` on.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let place = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.places.len());
        let numbers = self.first + place as u64..;
        numbers.zip(self.places.range(place..)).filter_map(|(number, thing)| Some((number, thing.as_ref()?)))
    }

    /// All of them in the order of their numbers, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        (self.first..).zip(&mut self.places).filter_map(|(number, thing)| Some((number, thing.as_mut()?)))
    }

    /// All of them in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.from(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        /// What a sorted map would give, whatever is put in and taken out.
        #[test]
        fn places_by_number_are_a_sorted_map(steps in proptest::collection::vec((0_u64..60, 0_u8..5), 0..400)) {
            let (mut numbered, mut plain) = (Numbered::default(), BTreeMap::new());
            for (time, (number, step)) in (0_u32..).zip(steps) {
                match step {
                    0..=1 => prop_assert_eq!(numbered.insert(number, time), plain.insert(number, time)),
                    2 => prop_assert_eq!(numbered.remove(number), plain.remove(&number)),
                    3 => prop_assert_eq!(numbered.get_mut(number), plain.get_mut(&number)),
                    _ => prop_assert_eq!(numbered.get(number), plain.get(&number)),
                }
                prop_assert_eq!(numbered.len(), plain.len());
                let later: Vec<(u64, u32)> = numbered.from(number).map(|(number, time)| (number, *time)).collect();
                prop_assert_eq!(later, plain.range(number..).map(|(number, time)| (*number, *time)).collect::<Vec<_>>());
                prop_assert_eq!(numbered.iter().map(|(number, _)| number).collect::<Vec<_>>(), plain.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
