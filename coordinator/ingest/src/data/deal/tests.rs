use super::*;

fn shares(text: &str) -> Shares {
    text.parse().expect("shares")
}

/// Images of one pixel, which tells their number, of classes 0 and 1 by turns.
fn hundred() -> Dealt {
    let mut dealt = Dealt::default();
    for number in 0..100_u8 {
        let split = usize::from(number / 40);
        dealt.splits[split].labels.push(number % 2);
        dealt.splits[split].pixels.push(number);
        let name = format!("{number}.png");
        dealt.hashes[split].push(Key::File(&name).hash());
    }
    dealt
}

#[test]
fn shares_are_read() {
    assert_eq!(shares("0.8,0.1,0.1"), shares(" .8, 1e-1 ,0.10"));
    assert!(shares("0.7,0.2,0.1").has_test());
    assert!(!shares("0.9,0.1,0").has_test());
    for text in [
        "",
        "0.8",
        "0.8,0.2",
        "0.8,0.1,0.2",
        "0.8,0.1,0.05,0.05",
        "0,0.5,0.5",
        "0.9,0,0.1",
        "1.2,-0.1,-0.1",
        "nan,0.5,0.5",
        "80,10,10",
        "a,b,c",
    ] {
        assert_eq!(
            text.parse::<Shares>(),
            Err(InvalidShares::Shares),
            "{text:?}"
        );
    }
    assert_eq!("0.125".parse(), Ok(ValidFraction(125_000)));
    for text in ["0", "1", "-0.1", "10", "inf", "x", "", "0.1,0.1"] {
        let error = text.parse::<ValidFraction>().expect_err(text);
        assert_eq!(error, InvalidShares::Fraction, "{text:?}");
    }
}

#[test]
fn each_class_is_dealt_in_the_promised_shares() {
    let mut dealt = hundred();
    dealt.deal_all(shares("0.7,0.2,0.1"));
    let mut seen = Vec::new();
    for (images, per_class) in dealt.splits.iter().zip([35, 10, 5]) {
        for class in 0..2 {
            let of_class = images.labels.iter().filter(|&&label| label == class);
            assert_eq!(of_class.count(), per_class);
        }
        // Images keep their labels and their order.
        for (label, number) in images.labels.iter().zip(&images.pixels) {
            assert_eq!(*label, number % 2);
        }
        assert!(images.pixels.is_sorted());
        seen.extend_from_slice(&images.pixels);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}

#[test]
fn the_deal_is_that_of_every_machine() {
    // As sha256sum prints them.
    assert_eq!(Key::File("a.png").hash(), 0x7f07_1235_805f_bf58);
    assert_eq!(Key::Row(7).hash(), 0x7902_699b_e42c_8a8e);
    let mut dealt = hundred();
    dealt.deal_all(shares("0.9,0.05,0.05"));
    let [_, valid, test] = dealt.splits.map(|images| images.pixels);
    // As Python's hashlib and sorted say.
    assert_eq!(valid, [6, 33, 40, 61, 68, 69]);
    assert_eq!(test, [0, 7, 8, 21, 42, 65]);
}

#[test]
fn a_fraction_of_the_training_images_becomes_the_validation_split() {
    let mut dealt = hundred();
    dealt.splits[1] = Images::default();
    let test = dealt.splits[2].clone();
    dealt.deal_valid("0.25".parse().expect("a fraction"));
    assert_eq!(dealt.splits[2], test);
    assert_eq!([0, 1].map(|split| dealt.splits[split].len()), [30, 10]);
}

#[test]
fn small_classes_have_an_image_in_each_split_as_far_as_possible() {
    let found = [0, 1, 2, 3, 4, 14, 15].map(|images| counts(images, shares("0.8,0.1,0.1")));
    let expected = [[0, 0], [0, 0], [1, 0], [1, 1], [1, 1], [1, 1], [2, 2]];
    assert_eq!(found, expected);
    assert_eq!(counts(10, shares("0.01,0.98,0.01")), [9, 0]);
    assert_eq!(counts(10, shares("0.9,0.1,0")), [1, 0]);
}
