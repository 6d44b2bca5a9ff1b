//! Order, cancellation and stalls of the executor, as tables and as properties over drawn schedules.

use super::*;
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// Runs tasks that note `(index, time)` after sleeping for the given nanoseconds.
fn wake_order(delays_ns: &[u64]) -> Vec<(usize, u64)> {
    let sim = Sim::new();
    let seen: Rc<RefCell<Vec<(usize, u64)>>> = Rc::default();
    for (index, delay) in delays_ns.iter().copied().enumerate() {
        let (clock, seen) = (sim.clone(), Rc::clone(&seen));
        sim.spawn("sleeper", async move {
            clock.sleep(ns(delay)).await;
            seen.borrow_mut().push((index, clock.now().as_nanos()));
        });
    }
    sim.run_until(SimTime::MAX).unwrap();
    assert_eq!((sim.task_count(), sim.timer_count()), (0, 0));
    seen.take()
}

#[test]
fn equal_times_run_in_the_order_of_arming() {
    assert_eq!(wake_order(&[5, 3, 5, 0, 3]), [(3, 0), (1, 3), (4, 3), (0, 5), (2, 5)]);
}

#[test]
fn the_clock_stops_at_the_end_of_the_run_and_goes_on_from_there() {
    let sim = Sim::new();
    let ended_at = Rc::new(Cell::new(None));
    let (clock, note) = (sim.clone(), Rc::clone(&ended_at));
    sim.spawn("sleeper", async move {
        clock.sleep(ns(10)).await;
        note.set(Some(clock.now().as_nanos()));
    });
    sim.run_until(SimTime::from_nanos(9)).unwrap();
    assert_eq!((sim.now().as_nanos(), ended_at.get()), (9, None));
    sim.run_until(SimTime::from_nanos(10)).unwrap();
    assert_eq!(ended_at.get(), Some(10));
    sim.run_until(SimTime::from_nanos(1)).unwrap();
    assert_eq!(sim.now().as_nanos(), 10);
}

#[test]
fn a_task_that_wakes_itself_is_named() {
    let sim = Sim::with_poll_limit(1000);
    sim.spawn("innocent", std::future::ready(()));
    sim.spawn(
        "restless",
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }),
    );
    let stall = sim.run_until(SimTime::MAX).unwrap_err();
    assert_eq!(stall, Stall { at: SimTime::ZERO, task: "restless".to_owned() });
}

#[test]
fn a_loop_of_zero_delays_is_named_too() {
    let sim = Sim::with_poll_limit(1000);
    let outer = sim.clone();
    sim.spawn("spawner", async move {
        outer.sleep(ns(3)).await;
        spin(&outer);
    });
    let stall = sim.run_until(SimTime::MAX).unwrap_err();
    assert_eq!(stall, Stall { at: SimTime::from_nanos(3), task: "spin".to_owned() });
}

fn spin(sim: &Sim) {
    let again = sim.clone();
    sim.spawn("spin", async move { spin(&again) });
}

#[test]
fn a_task_may_abort_itself_and_its_sleep_goes_with_it() {
    let sim = Sim::new();
    let handle: Rc<RefCell<Option<TaskHandle>>> = Rc::default();
    let (clock, own) = (sim.clone(), Rc::clone(&handle));
    *handle.borrow_mut() = Some(sim.spawn("suicide", async move {
        let sleep = clock.sleep(ns(1));
        own.borrow().as_ref().unwrap().abort();
        sleep.await;
        panic!("an aborted task does not go on");
    }));
    sim.run_until(SimTime::MAX).unwrap();
    assert!(handle.borrow().as_ref().unwrap().is_ended());
    assert_eq!(sim.timer_count(), 0);
}

#[test]
fn a_group_dies_together_and_keeps_no_entry_of_the_ended() {
    let sim = Sim::new();
    let group = TaskGroup::new(&sim);
    for _ in 0..10_000 {
        group.spawn("short", std::future::ready(()));
        sim.run_until(sim.now()).unwrap();
    }
    assert!(group.entry_count() <= 16, "{} entries for no living task", group.entry_count());
    let clock = sim.clone();
    group.spawn("long", async move { clock.sleep(ns(5)).await });
    sim.run_until(sim.now()).unwrap();
    assert_eq!((sim.task_count(), sim.timer_count()), (1, 1));
    group.abort();
    group.spawn("late", async { panic!("a dead group starts nothing") });
    sim.run_until(SimTime::MAX).unwrap();
    assert_eq!((sim.task_count(), sim.timer_count()), (0, 0));
}

#[test]
fn cancelled_timers_leave_nothing_behind() {
    let sim = Sim::new();
    let clock = sim.clone();
    let timers_max = Rc::new(Cell::new(0));
    let note = Rc::clone(&timers_max);
    sim.spawn("canceller", async move {
        for _ in 0..10_000 {
            let mut far = Box::pin(clock.sleep(Duration::from_secs(3600)));
            std::future::poll_fn(|cx| Poll::Ready(far.as_mut().poll(cx).is_pending())).await;
            note.set(note.get().max(clock.timer_count()));
            assert!(clock.core.timers.borrow().entry_count() < 100, "dead timers pile up");
        }
    });
    sim.run_until(SimTime::MAX).unwrap();
    assert_eq!((timers_max.get(), sim.core.timers.borrow().entry_count()), (1, 0));
}

#[test]
fn the_number_of_an_ended_task_does_not_mean_its_successor() {
    let sim = Sim::new();
    let first = sim.spawn("first", std::future::ready(()));
    sim.run_until(sim.now()).unwrap();
    let clock = sim.clone();
    let second = sim.spawn("second", async move { clock.sleep(ns(5)).await });
    assert_eq!(first.id.index, second.id.index, "the place is used again");
    first.abort();
    assert!(first.is_ended() && !second.is_ended());
}

#[test]
fn a_world_that_is_over_holds_nothing() {
    let sim = Sim::new();
    let owned = Rc::new(());
    for _ in 0..3 {
        let (clock, owned) = (sim.clone(), Rc::clone(&owned));
        sim.spawn("holder", async move {
            clock.sleep(Duration::from_secs(9)).await;
            drop(owned);
        });
    }
    sim.run_until(SimTime::from_nanos(1)).unwrap();
    sim.end();
    assert_eq!((Rc::strong_count(&owned), sim.task_count(), sim.timer_count()), (1, 0, 0));
}

fn delays() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..20, 0..60)
}

proptest! {
    /// The queue wakes as a stable sort of the deadlines would.
    #[test]
    fn timers_fire_as_a_stable_sort(delays_ns in delays()) {
        let mut expected: Vec<(usize, u64)> = delays_ns.iter().copied().enumerate().collect();
        expected.sort_by_key(|(_, delay)| *delay);
        prop_assert_eq!(wake_order(&delays_ns), expected);
    }

    /// Aborting any subset leaves the others as if the aborted had never been there.
    #[test]
    fn the_aborted_do_not_disturb_the_others(delays_ns in delays(), aborted in prop::collection::vec(prop::bool::ANY, 60), at in 0_u64..20) {
        let sim = Sim::new();
        let seen: Rc<RefCell<Vec<usize>>> = Rc::default();
        let handles: Vec<TaskHandle> = delays_ns.iter().copied().enumerate().map(|(index, delay)| {
            let (clock, seen) = (sim.clone(), Rc::clone(&seen));
            sim.spawn("sleeper", async move {
                clock.sleep(ns(delay)).await;
                seen.borrow_mut().push(index);
            })
        }).collect();
        sim.run_until(SimTime::from_nanos(at)).unwrap();
        for (handle, is_aborted) in handles.iter().zip(&aborted) {
            if *is_aborted {
                handle.abort();
            }
        }
        sim.run_until(SimTime::MAX).unwrap();
        let expected: Vec<usize> = wake_order(&delays_ns).into_iter().map(|(index, _)| index)
            .filter(|index| delays_ns[*index] <= at || !aborted[*index]).collect();
        prop_assert_eq!(seen.take(), expected);
        prop_assert!(sim.timer_count() == 0 && sim.task_count() == 0);
    }
}
