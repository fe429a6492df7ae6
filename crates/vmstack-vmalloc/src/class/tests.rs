use super::Class;

#[test]
fn a_class_is_the_smallest_that_holds() {
    for pages in 2..=4096 {
        let class = Class::holding(pages);
        assert!(class.stride() >= pages, "{pages} pages in {}", class.stride());
        if class.index() > 0 {
            assert!(Class::new(class.index() - 1).stride() < pages, "{pages} pages in {}", class.stride());
        }
    }
}

#[test]
fn strides_grow_and_powers_of_two_are_among_them() {
    let strides: Vec<usize> = (0..43).map(|index| Class::new(index).stride()).collect();
    assert!(strides.is_sorted() && strides.first() == Some(&2) && strides.last() == Some(&4096), "{strides:?}");
    for bits in 1..=12 {
        assert_eq!(Class::holding(1 << bits).stride(), 1 << bits);
    }
}

#[test]
fn every_page_is_in_its_slot() {
    for class in Class::up_to(4096) {
        for page in 0..=8192 {
            assert_eq!(class.slot_of(page), page / class.stride(), "page {page}, stride {}", class.stride());
        }
    }
}
