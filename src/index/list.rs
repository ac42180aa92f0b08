//! Lists without room to spare: an index has a few for each subscription, most of them of one item, and a change
//! copies them anyway.

use std::mem;

pub(super) fn insert<T>(list: &mut Box<[T]>, at: usize, item: T) {
    let mut items = mem::take(list).into_vec();
    items.reserve_exact(1);
    items.insert(at, item);
    *list = items.into_boxed_slice();
}

pub(super) fn remove<T>(list: &mut Box<[T]>, at: usize) {
    let mut items = mem::take(list).into_vec();
    items.remove(at);
    *list = items.into_boxed_slice();
}
