//! Against the order in which Keras lists its layers.

use super::*;

/// Numbers that Keras 3.15 gave the convolutions of InceptionV3 when it made them, in the order of
/// `model.layers`.
const V3: [usize; 94] = [
    0, 1, 2, 3, 4, 8, 6, 9, 5, 7, 10, 11, 15, 13, 16, 12, 14, 17, 18, 22, 20, 23, 19, 21, 24, 25,
    27, 28, 26, 29, 34, 35, 31, 36, 32, 37, 30, 33, 38, 39, 44, 45, 41, 46, 42, 47, 40, 43, 48, 49,
    54, 55, 51, 56, 52, 57, 50, 53, 58, 59, 64, 65, 61, 66, 62, 67, 60, 63, 68, 69, 72, 73, 70, 74,
    71, 75, 80, 77, 81, 78, 79, 82, 83, 76, 84, 89, 86, 90, 87, 88, 91, 92, 85, 93,
];

/// timm's names of the convolutions in the order in which Keras' code makes them.
fn created(mixed: &[(&str, &[&str])]) -> Vec<String> {
    let names = mixed.iter().flat_map(|(block, units)| {
        units.iter().map(move |unit| match *block {
            "" => format!("{unit}.conv"),
            block => format!("{block}.{unit}.conv"),
        })
    });
    names.collect()
}

fn order(layers: &[Layer], kind: Kind) -> Vec<&str> {
    let layers = layers.iter().filter(|layer| layer.kind == kind);
    layers.map(|layer| layer.torch.as_str()).collect()
}

#[test]
fn v3_is_in_the_order_of_keras() {
    let small: &[&str] = &[
        "branch1x1",
        "branch5x5_1",
        "branch5x5_2",
        "branch3x3dbl_1",
        "branch3x3dbl_2",
        "branch3x3dbl_3",
        "branch_pool",
    ];
    let middle: &[&str] = &[
        "branch1x1",
        "branch7x7_1",
        "branch7x7_2",
        "branch7x7_3",
        "branch7x7dbl_1",
        "branch7x7dbl_2",
        "branch7x7dbl_3",
        "branch7x7dbl_4",
        "branch7x7dbl_5",
        "branch_pool",
    ];
    let wide: &[&str] = &[
        "branch1x1",
        "branch3x3_1",
        "branch3x3_2a",
        "branch3x3_2b",
        "branch3x3dbl_1",
        "branch3x3dbl_2",
        "branch3x3dbl_3a",
        "branch3x3dbl_3b",
        "branch_pool",
    ];
    let created = created(&[
        (
            "",
            &[
                "Conv2d_1a_3x3",
                "Conv2d_2a_3x3",
                "Conv2d_2b_3x3",
                "Conv2d_3b_1x1",
                "Conv2d_4a_3x3",
            ],
        ),
        ("Mixed_5b", small),
        ("Mixed_5c", small),
        ("Mixed_5d", small),
        (
            "Mixed_6a",
            &[
                "branch3x3",
                "branch3x3dbl_1",
                "branch3x3dbl_2",
                "branch3x3dbl_3",
            ],
        ),
        ("Mixed_6b", middle),
        ("Mixed_6c", middle),
        ("Mixed_6d", middle),
        ("Mixed_6e", middle),
        (
            "Mixed_7a",
            &[
                "branch3x3_1",
                "branch3x3_2",
                "branch7x7x3_1",
                "branch7x7x3_2",
                "branch7x7x3_3",
                "branch7x7x3_4",
            ],
        ),
        ("Mixed_7b", wide),
        ("Mixed_7c", wide),
    ]);
    let layers = v3();
    let expected: Vec<&str> = V3.iter().map(|&number| created[number].as_str()).collect();
    assert_eq!(order(&layers, Kind::Conv), expected);
    let norms: Vec<String> = expected
        .iter()
        .map(|name| name.replace(".conv", ".bn"))
        .collect();
    assert_eq!(order(&layers, Kind::Norm), norms);
    // Layers of one depth stand side by side: two convolutions, then their normalisations.
    let kinds: String = layers[10..24]
        .iter()
        .map(|layer| match layer.kind {
            Kind::Conv => 'c',
            Kind::Norm => 'n',
        })
        .collect();
    assert_eq!(kinds, "cnccnnccccnnnn");
}

#[test]
fn resnet_v2_is_in_the_order_of_keras() {
    let layers = resnet_v2();
    let convs = order(&layers, Kind::Conv);
    assert_eq!((convs.len(), layers.len()), (244, 448));
    // Keras' conv2d_5 to conv2d_17 and block35_1_conv, in the order 8, 6, 9, 5, 7, 10, 11, 15, 13, 16, 12,
    // 14, 17.
    assert_eq!(
        convs[5..19],
        [
            "mixed_5b.branch2.0.conv",
            "mixed_5b.branch1.0.conv",
            "mixed_5b.branch2.1.conv",
            "mixed_5b.branch0.conv",
            "mixed_5b.branch1.1.conv",
            "mixed_5b.branch2.2.conv",
            "mixed_5b.branch3.1.conv",
            "repeat.0.branch2.0.conv",
            "repeat.0.branch1.0.conv",
            "repeat.0.branch2.1.conv",
            "repeat.0.branch0.conv",
            "repeat.0.branch1.1.conv",
            "repeat.0.branch2.2.conv",
            "repeat.0.conv2d",
        ]
    );
    // conv2d_156 to conv2d_162 in the order 160, 156, 158, 161, 157, 159, 162.
    let mixed_7a = convs.iter().position(|name| name.starts_with("mixed_7a"));
    let mixed_7a = mixed_7a.unwrap();
    assert_eq!(
        convs[mixed_7a..mixed_7a + 7],
        [
            "mixed_7a.branch2.0.conv",
            "mixed_7a.branch0.0.conv",
            "mixed_7a.branch1.0.conv",
            "mixed_7a.branch2.1.conv",
            "mixed_7a.branch0.1.conv",
            "mixed_7a.branch1.1.conv",
            "mixed_7a.branch2.2.conv",
        ]
    );
    assert_eq!(convs.last(), Some(&"conv2d_7b.conv"));
}
